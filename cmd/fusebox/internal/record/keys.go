package record

import "strings"

// MostKeys is of how many keys Keys tells the names.
const MostKeys = 1 << 16

// Others is the name that all keys share which are beyond MostKeys.
const Others = "(others)"

// Keys gives each key a number, from 0 in the order in which they are met. Its zero value has none. Numbers are given
// by one goroutine at a time.
type Keys struct {
	names   []string
	numbers map[string]uint32
}

// Number is the number of a key. What does not fit any more is Others.
func (k *Keys) Number(name string) uint32 {
	if number, known := k.numbers[name]; known {
		return number
	}
	if len(k.names) >= MostKeys-1 {
		name = Others
		if number, known := k.numbers[name]; known {
			return number
		}
	}
	if k.numbers == nil {
		k.numbers = make(map[string]uint32)
	}
	name = strings.Clone(name) // of a line that is not to be kept
	number := uint32(len(k.names))
	k.names = append(k.names, name)
	k.numbers[name] = number
	return number
}

// Name is the name of a number that Number has given.
func (k *Keys) Name(number uint32) string { return k.names[number] }

// Len is how many numbers have been given.
func (k *Keys) Len() int { return len(k.names) }
