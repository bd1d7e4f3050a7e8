package fleetredis

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// mostOverrides bounds what the followers of a namespace have to apply.
const mostOverrides = 1024

// mostPattern bounds the length of an override's pattern, in bytes.
const mostPattern = 8 << 10

// mostForced is how long an override holds at most.
const mostForced = 30 * 24 * time.Hour

// Admin sees what the members of a namespace tell of their circuits, and forces circuits. The command fusebox-circuits
// is built on it. Its methods make calls of Redis and wait for them.
type Admin struct{ place }

// NewAdmin panics as New does.
func NewAdmin(client redis.UniversalClient, o Options) *Admin {
	return &Admin{newPlace("NewAdmin", client, &o)}
}

// OpenCircuit is a circuit that a member has open.
type OpenCircuit struct {
	Key    transport.Key `json:"key"`
	Member string        `json:"member"`
	For    time.Duration `json:"-"` // so long it has been in trouble
}

// Open returns who has which circuit open, up to 4096 of them, in the order of their keys. A member that dies is in it
// for a minute and a half more at most, and so is one that leaves while Redis cannot be reached.
func (a *Admin) Open(ctx context.Context) ([]OpenCircuit, error) {
	messages, err := a.listOpen(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]OpenCircuit, len(messages))
	for i, m := range messages {
		all[i] = OpenCircuit{Key: m.Key, Member: m.From, For: m.Ago}
	}
	slices.SortFunc(all, func(a, b OpenCircuit) int {
		return cmp.Or(cmp.Compare(a.Key.String(), b.Key.String()), cmp.Compare(a.Member, b.Member))
	})
	return all, nil
}

// Records returns what Storages have written, up to 4096 records, in the order of their keys.
func (a *Admin) Records(ctx context.Context) ([]Record, error) {
	all, err := a.records(ctx)
	slices.SortFunc(all, func(a, b Record) int { return cmp.Compare(a.Key.String(), b.Key.String()) })
	return all, err
}

// Override is a state that all members that follow force on their circuits.
type Override struct {
	transport.Override
	Left time.Duration `json:"-"` // until it ends by itself
}

var (
	// force sets an override: KEYS[1] is the hash of all and the channel on which its changes are told, ARGV a pattern,
	// a state, how long it holds in milliseconds, and how many there may be. It returns how many hear of it, or -1 if
	// there are so many.
	force = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local last = now + ARGV[3]
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local ok, o = pcall(cjson.decode, all[i + 1])
  local ends = ok and type(o) == 'table' and tonumber(o['until']) or 0
  if ends <= now then redis.call('HDEL', KEYS[1], all[i]) elseif ends > last then last = ends end
end
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) then return -1 end
local text = string.format('{"state":"%s","at":%.0f,"until":%.0f}', ARGV[2], now, now + ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], text)
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', last - now))
return redis.call('PUBLISH', KEYS[1], 'force')`)

	// release is its counterpart: ARGV[1] is the pattern.
	release = redis.NewScript(`
local known = redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('PUBLISH', KEYS[1], 'release')
return known`)

	// forced returns the time in milliseconds, and all overrides with their patterns.
	forced = redis.NewScript(`
local t = redis.call('TIME')
local result = redis.call('HGETALL', KEYS[1])
result[#result + 1] = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
return result`)
)

// Force has all members that follow (FollowOverrides) keep the circuits that match the pattern in the state, as
// transport.Transport.Force does, until Release or for that long. The state is policy.Open or policy.Closed. It returns
// how many follow just now: 0 if none does, which may be a wrong namespace. Those that come later apply it, too.
func (a *Admin) Force(
	ctx context.Context, pattern string, state policy.State, hold time.Duration,
) (followers int, err error) {
	switch {
	case pattern == "" || len(pattern) > mostPattern:
		return 0, fmt.Errorf("a pattern has 1 to %d bytes, and this one %d", mostPattern, len(pattern))
	case state != policy.Open && state != policy.Closed:
		return 0, fmt.Errorf("circuits can be forced open or closed, and not %v", state)
	case hold < time.Second || hold > mostForced:
		return 0, fmt.Errorf("an override holds for 1 second to 30 days, and not for %v", hold)
	}
	followers, err = force.Run(
		ctx, a.client, []string{a.overrides()}, pattern, state.String(), hold.Milliseconds(), mostOverrides,
	).Int()
	if err == nil && followers < 0 {
		return 0, fmt.Errorf("there are %d overrides already; release some", mostOverrides)
	}
	return followers, err
}

// Release ends what Force did with the same pattern, and reports whether there was such an override.
func (a *Admin) Release(ctx context.Context, pattern string) (known bool, err error) {
	return release.Run(ctx, a.client, []string{a.overrides()}, pattern).Bool()
}

// Overrides returns what is forced, in the order in which it was. Where several match a key, the last has the say.
func (a *Admin) Overrides(ctx context.Context) ([]Override, error) {
	all, _, err := a.listOverrides(ctx)
	return all, err
}

// listOverrides leaves out what makes no sense or is too much, and counts it.
func (p place) listOverrides(ctx context.Context) (all []Override, leftOut int, err error) {
	list, err := forced.Run(ctx, p.client, []string{p.overrides()}).StringSlice()
	if err != nil {
		return nil, 0, err
	}
	var now int64
	if len(list) == 0 || json.Unmarshal([]byte(list[len(list)-1]), &now) != nil {
		return nil, 0, errors.New("fleet/fleetredis: overrides are not what they should be")
	}
	for i := 0; i+1 < len(list); i += 2 {
		var o struct {
			State     string
			At, Until int64
		}
		var state policy.State
		switch pattern := list[i]; {
		case json.Unmarshal([]byte(list[i+1]), &o) != nil || state.UnmarshalText([]byte(o.State)) != nil ||
			state == policy.HalfOpen || pattern == "" || len(pattern) > mostPattern ||
			o.Until > now && len(all) >= mostOverrides:
			leftOut++
			continue
		case o.Until <= now:
			continue
		}
		// Times that Force does not write would break what is done with them, JSON above all.
		at, left := max(0, min(o.At, now)), min(uint64(o.Until)-uint64(now), uint64(mostForced.Milliseconds()))
		all = append(all, Override{
			transport.Override{Pattern: list[i], State: state, At: time.UnixMilli(at)},
			time.Duration(left) * time.Millisecond,
		})
	}
	slices.SortFunc(all, func(a, b Override) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Pattern, b.Pattern))
	})
	return all, leftOut, nil
}
