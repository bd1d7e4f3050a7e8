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

	"github.com/fusebox-go/fusebox/internal/visible"
	"github.com/fusebox-go/fusebox/policy"
)

// Action is what somebody did on the page. What cannot be seen in its texts is escaped.
type Action struct {
	At      time.Time `json:"at"`
	Stage   string    `json:"stage"`   // Asked, Done, GivenUp or BrokenOff
	Do      string    `json:"do"`      // "open" or "closed", which are forced, "release" or "reset"
	Pattern string    `json:"pattern"` // of keys, as transport.Transport.Force has it
	Matched int       `json:"matched"` // circuits; 0 unless it is done
	User    string    `json:"user,omitempty"`
	Remote  string    `json:"remote"`        // address of the connection, which is a proxy's if there is one
	Why     string    `json:"why,omitempty"` // it was given up, in at most 512 bytes
}

// The stages of an Action.
const (
	Asked     = "asked"      // it is about to be done
	Done      = "done"       // it is done
	GivenUp   = "given up"   // nothing is done: whoever asked went away before, or it cannot be done
	BrokenOff = "broken off" // some of it may be done: an observer of the circuits panicked
)

// LogActions returns a function for WithActionLog that tells a logger who asks to do what to which pattern, and what
// came of it: at Info; at Warn if no circuit matched, since then it was most likely not what was meant, or it was given
// up; and at Error if it was broken off.
func LogActions(logger *slog.Logger) func(Action) {
	if logger == nil {
		panic("fusebox/dashboard: LogActions got a nil logger; write slog.Default()")
	}
	return func(a Action) {
		level, text := slog.LevelInfo, "circuits by hand"
		attrs := []slog.Attr{slog.String("do", a.Do), slog.String("pattern", a.Pattern)}
		switch a.Stage {
		case Asked:
			text += ", asked for"
		case GivenUp:
			level, text = slog.LevelWarn, text+", given up"
			attrs = append(attrs, slog.String("why", a.Why))
		case BrokenOff:
			level, text = slog.LevelError, text+", broken off"
		default:
			if a.Matched == 0 {
				level = slog.LevelWarn
			}
			attrs = append(attrs, slog.Int("matched", a.Matched))
		}
		if a.User != "" {
			attrs = append(attrs, slog.String("user", a.User))
		}
		logger.LogAttrs(context.Background(), level, text, append(attrs, slog.String("remote", a.Remote))...)
	}
}

const (
	mostAsked   = 64 << 10 // bytes
	mostPattern = 8 << 10  // bytes, as transport.Transport.Force has it
	mostWho     = 256      // bytes of a user or an address
	mostWhy     = 512      // bytes of an error
)

// act does what a POST of {"do": "open", "pattern": "https://example.com"} asks for, and answers with the Action.
//
// Who may is the business of AllowActions. That it is not another site's page which makes an operator's browser
// ask is seen to here: a browser says of a POST where it is from, http.CrossOriginProtection looks at that, and a form
// cannot send JSON.
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
	var do func(pattern string) (matched int, err error)
	switch asked.Do {
	case "open":
		do = func(pattern string) (int, error) { return d.t.Force(pattern, policy.Open) }
	case "closed":
		do = func(pattern string) (int, error) { return d.t.Force(pattern, policy.Closed) }
	case "release":
		do = d.t.Release
	case "reset":
		do = d.t.Reset
	default:
		http.Error(w, "do is one of open, closed, release and reset", http.StatusBadRequest)
		return
	}
	a := Action{At: time.Now(), Do: asked.Do, Pattern: visible.Pattern(asked.Pattern), Remote: visible.Short(
		r.RemoteAddr, mostWho,
	)}
	if d.opts.user != nil {
		a.User = visible.Short(d.opts.user(r), mostWho)
	}
	a, err := d.perform(r.Context(), a, do)
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	case a.Stage != Done:
		http.Error(w, "not done: "+a.Why, http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(a)
}

// perform does it, and has it told before and after, whatever happens: whoever tells of it is a user's function and may
// panic.
func (d *Dashboard) perform(ctx context.Context, a Action, do func(pattern string) (int, error)) (_ Action, err error) {
	a.Stage = Asked
	d.tell(a)
	a.Stage = BrokenOff
	defer func() {
		d.remember(a)
		d.tell(a)
	}()
	if ctx.Err() != nil { // whoever asked may have been told that nothing came of it
		a.Stage, a.Why = GivenUp, "the request was over before"
		return a, nil
	}
	if a.Matched, err = do(a.Pattern); err != nil {
		a.Stage, a.Why = GivenUp, visible.Short(err.Error(), mostWhy)
		return a, err
	}
	a.Stage = Done
	return a, nil
}

func (d *Dashboard) tell(a Action) {
	if d.opts.log != nil {
		d.opts.log(a)
	}
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
