package postgresstore

import (
	"cmp"
	"errors"
	"net"
	"net/url"
	"strings"

	"github.com/weirdata/weir/internal/fault"
)

// errDSN says that a DSN cannot be read. It never shows the DSN, which holds a password.
func errDSN(why string) error {
	return fault.New(fault.Setup, errors.New("dsn cannot be read: "+why+"; write postgres://user:password@host/database, with other characters than letters and digits of the password as %XX"))
}

// placeOf is the part of a DSN that says which database it names: host, port and database.
// User and password are left out.
func placeOf(dsn string) (string, error) {
	words := map[string]string{}
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		u, err := url.Parse(dsn)
		if err != nil {
			return "", errDSN("it is no valid URL") // err shows the URL
		}
		// A "#", "?" or "/" of the password ends what the URL takes for the host: what is
		// before it would be shown as the host.
		if u.Fragment != "" || u.User == nil && strings.Contains(dsn, "@") {
			return "", errDSN("a character of the password ends the host")
		}
		words["user"] = u.User.Username()
		words["dbname"] = strings.TrimPrefix(u.Path, "/")
		words["host"] = u.Host
		for name, values := range u.Query() {
			words[name] = values[0]
		}
	} else if err := keywords(dsn, words); err != nil {
		return "", err
	}
	host := words["host"]
	if port := words["port"]; port != "" && host != "" {
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(strings.Trim(host, "[]"), port)
		}
	}
	return cmp.Or(host, "local") + "/" + cmp.Or(words["dbname"], words["database"], words["user"]), nil
}

// keywords reads key=value words, with values in quotes and with backslashes where they
// need them, as PostgreSQL's own programs do.
func keywords(dsn string, into map[string]string) error {
	for rest := strings.TrimLeft(dsn, " \t\r\n"); rest != ""; rest = strings.TrimLeft(rest, " \t\r\n") {
		name, after, ok := strings.Cut(rest, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" || strings.ContainsAny(name, " \t\r\n'\\") {
			return errDSN("it is neither a URL nor key=value words")
		}
		value, left, ok := word(strings.TrimLeft(after, " \t\r\n"))
		if !ok {
			return errDSN("a quoted value does not end")
		}
		into[name], rest = value, left
	}
	return nil
}

// word takes one value off the front of s.
func word(s string) (value, rest string, ok bool) {
	quoted := strings.HasPrefix(s, "'")
	i := 0
	if quoted {
		i = 1
	}
	var b strings.Builder
	for ; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case quoted && c == '\'':
			return b.String(), s[i+1:], true
		case !quoted && strings.IndexByte(" \t\r\n", c) >= 0:
			return b.String(), s[i:], true
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", !quoted
}
