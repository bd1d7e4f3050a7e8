package transport

import (
	"github.com/fusebox-go/fusebox/internal/own"
	"github.com/fusebox-go/fusebox/policy"
)

func init() {
	own.WithRandom = func(random func() float64) any { return Option(func(t *Transport) { t.random = random }) }
	own.ForceUnsaved = func(t any, pattern string, state policy.State) (matched int, err error) {
		return t.(*Transport).force(Override{Pattern: pattern, State: state, unsaved: true})
	}
}
