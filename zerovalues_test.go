package fusebox_test

import (
	"io"
	"log/slog"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/dashboard"
	"github.com/fusebox-go/fusebox/logs"
)

// A test of somebody's calls what an Observer has with what it makes up, or with nothing.
func TestWhatLogsTakesEventsOfNothing(t *testing.T) {
	logger := slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelDebug}))
	observer, called := reflect.ValueOf(logs.Observer(logger)), 0
	for i := range observer.NumField() {
		if f := observer.Field(i); f.Kind() == reflect.Func && !f.IsNil() {
			called++
			var nothing []reflect.Value
			for arg := range f.Type().NumIn() {
				value := reflect.New(f.Type().In(arg)).Elem()
				nothing = append(nothing, value)
			}
			f.Call(nothing)
		}
	}
	require.NotZero(t, called)
	dashboard.LogActions(logger)(dashboard.Action{})
}
