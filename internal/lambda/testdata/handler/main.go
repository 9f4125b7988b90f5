// Command bootstrap is a Lambda function as one would deploy it: it knows nothing of Weir.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type order struct {
	ID          string `json:"id"`
	CountryCode string `json:"country_code"`
}

type answer struct {
	order
	RequestID  string   `json:"request_id"`
	ARN        string   `json:"arn"`
	Function   string   `json:"function"`
	DeadlineIn int64    `json:"deadline_in_ms"`
	PID        int      `json:"pid"`
	Env        []string `json:"env"`
}

// ErrInvalidCountryCode is the error of an order from elsewhere.
type ErrInvalidCountryCode struct{ code string }

func (e ErrInvalidCountryCode) Error() string { return "invalid country code: " + e.code }

func handle(ctx context.Context, o order) (*answer, error) {
	fmt.Println("order", o.ID)
	fmt.Fprintln(os.Stderr, "country", o.CountryCode)
	switch o.CountryCode {
	case "FR":
		return nil, ErrInvalidCountryCode{o.CountryCode}
	case "PLAIN":
		return nil, errors.New("a plain error")
	case "PANIC":
		panic("a panic of the handler")
	case "EXIT":
		os.Exit(3)
	case "SLOW":
		time.Sleep(10 * time.Minute)
	case "CHILD", "APART": // starts a process, or one in a session of its own, and says which
		c := exec.Command("sleep", "600")
		if o.CountryCode == "APART" {
			c = exec.Command("setsid", "sleep", "600")
		}
		if err := c.Start(); err != nil {
			return nil, err
		}
		o.ID = strconv.Itoa(c.Process.Pid)
	case "LARGE":
		o.ID = strings.Repeat("x", 7<<20)
	}
	lc, _ := lambdacontext.FromContext(ctx)
	deadline, _ := ctx.Deadline()
	return &answer{o, lc.AwsRequestID, lc.InvokedFunctionArn, lambdacontext.FunctionName, time.Until(deadline).Milliseconds(), os.Getpid(), os.Environ()}, nil
}

func main() {
	if os.Getenv("INIT") == "fail" {
		fmt.Fprintln(os.Stderr, "cannot begin")
		os.Exit(1)
	}
	lambda.Start(handle)
}
