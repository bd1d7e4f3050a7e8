package tally

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func TestTimeThatWasReadIsNotTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := transport.New(nil)
		ta := New(rt, DefaultMaxKeys)
		key := transport.Key{Scheme: "http", Host: "sick.test"}
		ta.changed(transport.StateChange{Key: key, From: policy.Closed, To: policy.Open, Reason: policy.ChangeTripped, At: time.Now(), Trouble: time.Now()})
		time.Sleep(9 * time.Second)
		closed := time.Now()
		time.Sleep(time.Second)
		spent := func() time.Duration {
			for _, r := range ta.Read().Rows {
				if r.Key == key {
					return r.Trouble
				}
			}
			return -1
		}
		ta.reading = true // another scrape is under way, and this one corrects nothing
		require.Equal(t, 10*time.Second, spent())
		ta.changed(transport.StateChange{Key: key, From: policy.Open, To: policy.Closed, At: closed}) // told late
		require.Equal(t, 10*time.Second, spent())
	})
}

func TestRequestsBetweenTwoReadsAreTakenForWhatTheyAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ta := New(transport.New(nil), DefaultMaxKeys)
		key := transport.Key{Scheme: "http", Host: "sick.test"}
		ta.changed(transport.StateChange{Key: key, From: policy.Closed, To: policy.Open, Reason: policy.ChangeRestored, At: time.Now(), Trouble: time.Now()})
		asked := func(gap time.Duration) {
			time.Sleep(gap)
			ta.refused(transport.RefusalEvent{Key: key, At: time.Now(), Error: &transport.RefusedError{Reason: policy.RefusedOpen}})
		}
		asked(time.Hour) // begins to count
		for range 30 {
			asked(AskedFor)
		}
		asked(AskedFor + time.Minute) // of which the minute does not
		time.Sleep(2 * time.Minute)
		ta.changed(transport.StateChange{Key: key, From: policy.Open, To: policy.Closed, Reason: policy.ChangeRecovered, At: time.Now()})
		for _, r := range ta.Read().Rows {
			if r.Key == key {
				require.Equal(t, 31*AskedFor+2*time.Minute, r.Trouble)
			}
		}
	})
}

func TestTimesOfTroubleAreTakenInBoundedMemory(t *testing.T) {
	ta := New(transport.New(nil), DefaultMaxKeys)
	for i := range mostTroubled + 10 {
		ta.inTrouble(transport.Key{Detail: strconv.Itoa(i)}, false, ta.other, time.Now())
	}
	require.LessOrEqual(t, ta.troubled.Len(), mostTroubled)
}

// Who makes up paths of an upstream that fails on them can have any number of parts cut out, one after the other.
func TestPartsTakeNoMoreThanAnEighthOfTheEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ta := New(transport.New(nil), 16)
		change := func(key transport.Key, part bool, from, to policy.State) {
			ta.changed(transport.StateChange{Key: key, Part: part, From: from, To: to, At: time.Now(), Known: true})
		}
		partOf := func(i int) transport.Key {
			return transport.Key{Scheme: "http", Host: "sick.test", Detail: "GET /" + strconv.Itoa(i)}
		}
		for i := range 100 {
			change(partOf(i), true, policy.Closed, policy.Open)
			change(partOf(i), true, policy.Open, policy.Closed)
		}
		require.Len(t, ta.entries, 2)
		for i := range 14 {
			change(transport.Key{Host: strconv.Itoa(i)}, false, policy.Closed, policy.Open)
		}
		require.Len(t, ta.entries, 16)
		require.EqualValues(t, 98, ta.other.counts[Series{Transitions, "closed", "open", ""}])
		time.Sleep(2 * time.Hour)
		change(partOf(100), true, policy.Closed, policy.Open)
		require.Contains(t, ta.entries, partOf(100), "one that was quiet for an hour has given way")
	})
}
