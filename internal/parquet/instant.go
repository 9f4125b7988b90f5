package parquet

import "time"

// Instant is the time of RFC 3339 text, a year from 0 to 9999, in every form that its section
// 5.6 has: T and Z may be small and T may be a space, a fraction may have any number of digits,
// of which nine count, and 23:59:60 of UTC, a leap second, is the second after it.
func Instant(text []byte) (time.Time, bool) {
	if at, ok := utc(text); ok {
		return at, true
	}
	return anyForm(text)
}

// anyForm reads what [utc] does not.
func anyForm(s []byte) (time.Time, bool) {
	const form = "2006-01-02T15:04:05"
	if len(s) <= len(form) || s[10] != 'T' && s[10] != 't' && s[10] != ' ' {
		return time.Time{}, false
	}
	rest := s[len(form):]
	nanos, scale := 0, int(time.Second)/10
	if rest[0] == '.' {
		n := 1
		for ; n < len(rest) && rest[n]-'0' <= 9; n++ {
			nanos += int(rest[n]-'0') * scale
			scale /= 10
		}
		if n == 1 {
			return time.Time{}, false
		}
		rest = rest[n:]
	}
	ahead, ok := offset(rest)
	if !ok {
		return time.Time{}, false
	}
	var plain [len(form) + 1]byte
	copy(plain[:], s[:len(form)])
	plain[10], plain[len(form)] = 'T', 'Z'
	leap := plain[17] == '6' && plain[18] == '0'
	if leap {
		plain[17], plain[18] = '5', '9'
	}
	at, ok := utc(plain[:])
	if !ok {
		return time.Time{}, false
	}
	at = at.Add(time.Duration(nanos) - time.Duration(ahead)*time.Minute)
	if leap {
		if at = at.UTC(); at.Hour() != 23 || at.Minute() != 59 {
			return time.Time{}, false
		}
		at = at.Add(time.Second)
	}
	return at, true
}

// offset is how many minutes a zone is ahead of UTC.
func offset(s []byte) (minutes int, ok bool) {
	if len(s) == 1 && (s[0] == 'Z' || s[0] == 'z') {
		return 0, true
	}
	const form = "+00:00"
	if len(s) != len(form) || s[0] != '+' && s[0] != '-' || s[3] != ':' {
		return 0, false
	}
	for _, i := range []int{1, 2, 4, 5} {
		if s[i]-'0' > 9 {
			return 0, false
		}
	}
	hours, minutes := int(s[1]-'0')*10+int(s[2]-'0'), int(s[4]-'0')*10+int(s[5]-'0')
	if hours > 23 || minutes > 59 {
		return 0, false
	}
	minutes += hours * 60
	if s[0] == '-' {
		minutes = -minutes
	}
	return minutes, true
}

// utc reads times in UTC with up to nine digits of a fraction: nearly all there are.
func utc(s []byte) (time.Time, bool) {
	const form = "2006-01-02T15:04:05Z"
	last := len(s) - 1
	if len(s) < len(form) || s[4] != '-' || s[7] != '-' || s[10] != 'T' || s[13] != ':' || s[16] != ':' || s[last] != 'Z' {
		return time.Time{}, false
	}
	ok := true
	number := func(from, to int) int {
		n := 0
		for _, c := range s[from:to] {
			ok = ok && c-'0' <= 9
			n = n*10 + int(c-'0')
		}
		return n
	}
	year, month, day := number(0, 4), number(5, 7), number(8, 10)
	hour, minute, second := number(11, 13), number(14, 16), number(17, 19)
	nanos := 0
	if last > 19 {
		digits := last - 20
		if s[19] != '.' || digits < 1 || digits > 9 {
			return time.Time{}, false
		}
		nanos = number(20, last)
		for ; digits < 9; digits++ {
			nanos *= 10
		}
	}
	if !ok || month < 1 || month > 12 || day < 1 || day > 28 && day > daysIn(year, month) || hour > 23 || minute > 59 || second > 59 {
		return time.Time{}, false
	}
	return time.Unix(int64(days(year, month, day))*86400+int64(hour*3600+minute*60+second), int64(nanos)), true
}

func daysIn(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// days is the number of days from 1970 to a date of the years 0 to 9999. A year begins in
// March here, so that the day that may be missing is its last.
func days(year, month, day int) int {
	if month < 3 {
		year, month = year-1, month+12
	}
	year += 400 // not below 0: divisions round down
	const before = 719468 + 146097
	return 365*year + year/4 - year/100 + year/400 + (153*(month-3)+2)/5 + day - 1 - before
}
