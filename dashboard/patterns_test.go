package dashboard_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/dashboard"
	"github.com/fusebox-go/fusebox/policy"
)

func TestWhatCannotBeForcedIsAnErrorAndGivenUp(t *testing.T) {
	var told []string
	var text bytes.Buffer
	log := dashboard.LogActions(slog.New(slog.NewTextHandler(&text, nil)))
	w := newWorld(t, dashboard.AllowActions(func(*http.Request) bool { return true }), dashboard.WithActionLog(func(a dashboard.Action) {
		told = append(told, a.Stage)
		log(a)
	}))
	w.circuits("a.test")
	act := func(do, pattern string) (status int, answer string) {
		status, answer, _ = w.do(http.MethodPost, "action", `{"do":"`+do+`","pattern":"`+pattern+`"}`, "Content-Type", asJSON)
		return status, answer
	}
	for _, do := range []string{"open", "closed", "release", "reset"} {
		for _, long := range []string{strings.Repeat("a", 8193), strings.Repeat("*", 8193), strings.Repeat("b", 60_000)} {
			status, answer := act(do, long)
			assert.Equal(t, http.StatusBadRequest, status, do)
			assert.Equal(t, "a pattern has 8192 bytes at most\n", answer)
		}
	}
	assert.Empty(t, told, "nothing that long is kept or logged")
	for i := range 1024 {
		_, err := w.breaker.Force(fmt.Sprint("http://many-", i), policy.Open)
		require.NoError(t, err)
	}
	status, answer := act("open", "*")
	assert.Equal(t, http.StatusBadRequest, status)
	assert.Equal(t, "fusebox: no more than 1024 patterns can be forced; release some\n", answer)
	assert.Equal(t, []string{dashboard.Asked, dashboard.GivenUp}, told)
	assert.Len(t, w.api().Recent, 1)
	const why = "fusebox: no more than 1024 patterns can be forced; release some"
	assert.Equal(t, why, w.api().Recent[0].Why)
	assert.Contains(t, text.String(), `msg="circuits by hand, given up" do=open pattern=* why="`+why+`"`)

	status, _ = act("reset", strings.Repeat("*", 8192))
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, dashboard.Done, told[len(told)-1])
}
