package fleet

import (
	"encoding/json"

	"github.com/fusebox-go/fusebox/policy"
)

// wire is a Message as JSON has it: with its key in parts, since text of a key is not read again.
type wire struct {
	From string `json:"f"`
	Key  struct {
		Scheme string `json:"s"`
		Host   string `json:"h"`
		Detail string `json:"d,omitempty"`
	} `json:"k"`
	plain // but for the two above
}

type plain Message

func wireOf(m Message) wire {
	w := wire{From: m.From, plain: plain(m)}
	w.Key.Scheme, w.Key.Host, w.Key.Detail = m.Key.Scheme, m.Key.Host, m.Key.Detail
	return w
}

// MarshalJSON writes the message in a line.
func (m Message) MarshalJSON() ([]byte, error) { return json.Marshal(wireOf(m)) }

// UnmarshalJSON reads what MarshalJSON has written.
func (m *Message) UnmarshalJSON(text []byte) error {
	w := wireOf(*m) // what is not there stays, as it does without this method
	if err := json.Unmarshal(text, &w); err != nil {
		return err
	}
	*m = Message(w.plain)
	m.From, m.Key = w.From, policy.Key{Scheme: w.Key.Scheme, Host: w.Key.Host, Detail: w.Key.Detail}
	return nil
}
