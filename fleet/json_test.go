package fleet_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/policy"
)

// What processes of other versions send and read.
func TestAMessageStaysAsItIsWritten(t *testing.T) {
	key := policy.Key{Scheme: "https", Host: "api.example.com"}
	detailed := policy.Key{Scheme: "https", Host: "a\x1b", Detail: `GET /"x" \`}
	for text, m := range map[string]fleet.Message{
		`{"f":"a","k":{"s":"https","h":"api.example.com"},"t":1,"b":3,"g":2}`:                                {From: "a", Key: key, Kind: fleet.Evidence, Failures: 3, Successes: 2},
		`{"f":"a","k":{"s":"https","h":"a\u001b","d":"GET /\"x\" \\"},"t":2,"l":9,"a":60000000000,"n":true}`: {From: "a", Key: detailed, Kind: fleet.Opened, For: 9, Ago: time.Minute, Known: true},
		`{"f":"","k":{"s":"","h":""},"t":9,"r":1,"i":2,"e":3}`:                                               {Kind: fleet.Recovering, Requests: 1, InFlight: 2, Took: 3},
	} {
		got, err := json.Marshal(m)
		require.NoError(t, err)
		require.Equal(t, text, string(got))
		got, err = json.Marshal([]*fleet.Message{&m})
		require.NoError(t, err)
		require.Equal(t, "["+text+"]", string(got))
		var read fleet.Message
		require.NoError(t, json.Unmarshal([]byte(text), &read))
		require.Equal(t, m, read)
	}
	m := fleet.Message{Took: 7}
	require.NoError(t, json.Unmarshal([]byte(`{"f":"b","k":{"h":"x","new":1},"t":77,"z":[]}`), &m))
	require.Equal(t, fleet.Message{From: "b", Key: policy.Key{Host: "x"}, Kind: 77, Took: 7}, m, "members and kinds of a later version")
	for _, bad := range []string{`{"k":"https://api.example.com"}`, `{"f":1}`, `[]`, `{"t":"open"}`} {
		require.Error(t, json.Unmarshal([]byte(bad), &m), bad)
	}
}
