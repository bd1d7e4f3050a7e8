package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// Action is what somebody did on the page.
type Action struct {
	At      time.Time `json:"at"`
	Do      string    `json:"do"`      // "open" or "closed", which are forced, "release" or "reset"
	Pattern string    `json:"pattern"` // of keys, as transport.Transport.Force has it
	Matched int       `json:"matched"` // circuits
	User    string    `json:"user,omitempty"`
	Remote  string    `json:"remote"` // address of the connection, which is a proxy's if there is one
}

// LogActions returns a function for WithActionLog that tells a logger who did what to which pattern, and how many circuits
// matched: at Info, and at Warn if none did, since then it was most likely not what was meant.
func LogActions(logger *slog.Logger) func(Action) {
	if logger == nil {
		panic("fusebox/dashboard: LogActions got a nil logger; write slog.Default()")
	}
	return func(a Action) {
		level := slog.LevelInfo
		if a.Matched == 0 {
			level = slog.LevelWarn
		}
		attrs := []slog.Attr{slog.String("do", a.Do), slog.String("pattern", a.Pattern), slog.Int("matched", a.Matched)}
		if a.User != "" {
			attrs = append(attrs, slog.String("user", a.User))
		}
		logger.LogAttrs(context.Background(), level, "circuits by hand", append(attrs, slog.String("remote", a.Remote))...)
	}
}

const (
	mostAsked   = 64 << 10 // bytes
	mostPattern = 8 << 10  // bytes, as transport.Transport.Force has it
)

// act does what a POST of {"do": "open", "pattern": "https://example.com"} asks for, and answers with the Action.
//
// Who may is the business of AllowActions. That it is not another site's page which makes an operator's browser
// ask is seen to here: a browser says of a POST where it is from, http.CrossOriginProtection looks at that, and a form cannot
// send JSON.
func (d *Dashboard) act(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "actions are posted", http.StatusMethodNotAllowed)
		return
	}
	if err := crossOrigin(r); err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	if d.opts.allow == nil || !d.opts.allow(r) {
		http.Error(w, "actions are not allowed; see dashboard.AllowActions", http.StatusForbidden)
		return
	}
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		http.Error(w, "an action is application/json", http.StatusUnsupportedMediaType)
		return
	}
	var asked struct{ Do, Pattern string }
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, mostAsked))
	body.DisallowUnknownFields()
	if err := body.Decode(&asked); err != nil {
		http.Error(w, "malformed action: "+err.Error(), http.StatusBadRequest)
		return
	}
	if _, err := body.Token(); err != io.EOF {
		http.Error(w, "malformed action: there is more than one", http.StatusBadRequest)
		return
	}
	if len(asked.Pattern) > mostPattern { // or all that is asked for would be kept and logged
		http.Error(w, fmt.Sprintf("a pattern has %d bytes at most", mostPattern), http.StatusBadRequest)
		return
	}
	if asked.Pattern == "" {
		http.Error(w, "an action needs a pattern; write * for all circuits", http.StatusBadRequest)
		return
	}
	done := Action{At: time.Now(), Do: asked.Do, Pattern: asked.Pattern, Remote: r.RemoteAddr}
	var err error
	switch asked.Do {
	case "open":
		done.Matched, err = d.t.Force(asked.Pattern, policy.Open)
	case "closed":
		done.Matched, err = d.t.Force(asked.Pattern, policy.Closed)
	case "release":
		done.Matched = d.t.Release(asked.Pattern)
	case "reset":
		done.Matched, err = d.t.Reset(asked.Pattern)
	default:
		http.Error(w, "do is one of open, closed, release and reset", http.StatusBadRequest)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if d.opts.user != nil {
		done.User = d.opts.user(r)
	}
	d.remember(done)
	if d.opts.log != nil {
		d.opts.log(done)
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(done)
}

var sameOrigin = http.NewCrossOriginProtection()

func crossOrigin(r *http.Request) error {
	if err := sameOrigin.Check(r); err != nil {
		return err
	}
	if r.Header.Get("Cookie") != "" && r.Header.Get("Origin") == "" && r.Header.Get("Sec-Fetch-Site") == "" {
		return errors.New("a request with cookies must say where it is from, by Origin or Sec-Fetch-Site")
	}
	return nil
}
