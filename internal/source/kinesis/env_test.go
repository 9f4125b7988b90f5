package kinesissource

import (
	"net/http"
	"os"
)

var (
	setenv = os.Setenv
	exit   = os.Exit
	// testClient keeps no connection: suites look for what is left.
	testClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
)
