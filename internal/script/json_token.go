package script

import "strconv"

// plainNumber says that JavaScript prints the number just as the token is written: at
// most 15 significant digits survive a float64, whatever they are.
func plainNumber(token string) bool {
	if len(token) > 17 || token == "-0" {
		return false
	}
	n, point := 0, -1
	for i := range len(token) {
		switch c := token[i]; {
		case c == '-':
		case c == '.':
			point = i
		case c >= '0' && c <= '9':
			n++
		default:
			return false
		}
	}
	if n > 15 {
		return false
	}
	if point < 0 {
		return true
	}
	if token[len(token)-1] == '0' {
		return false
	}
	// Below 1e-6 JavaScript turns to exponents: ask for a digit that rules it out.
	fraction := token[point+1:]
	lead := token[:point]
	if lead != "0" && lead != "-0" {
		return true
	}
	for i := 0; i < len(fraction) && i < 6; i++ {
		if fraction[i] != '0' {
			return true
		}
	}
	return false
}

// arrayIndex reports whether key is an array index in its canonical spelling, which
// JavaScript enumerates before all other keys, by size.
func arrayIndex(key string) (uint32, bool) {
	if key == "" || len(key) > 10 || key[0] < '0' || key[0] > '9' || (key[0] == '0' && len(key) > 1) {
		return 0, false
	}
	n, err := strconv.ParseUint(key, 10, 64)
	if err != nil || n >= 1<<32-1 {
		return 0, false
	}
	return uint32(n), true
}
