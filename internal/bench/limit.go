package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"

	"github.com/dop251/goja"

	"github.com/weirdata/weir/internal/parquet"
)

// limit is a child that does the bare minimum of a case with the lines of its input.
func limit(args []string) error {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), 1<<24)
	switch args[0] {
	case "lines":
		return each(in, func(line []byte) ([]byte, error) { return line, nil })
	case "goja":
		return scripted(in)
	case "log":
		return logged(in)
	case "parquet":
		return encoded(in)
	}
	return fmt.Errorf("there is no limit %q", args[0])
}

// each writes what f makes of each line to standard output.
func each(in *bufio.Scanner, f func(line []byte) ([]byte, error)) error {
	out := bufio.NewWriterSize(os.Stdout, 1<<16)
	for in.Scan() {
		b, err := f(in.Bytes())
		if err != nil {
			return err
		}
		if _, err := out.Write(b); err != nil {
			return err
		}
		if err := out.WriteByte('\n'); err != nil {
			return err
		}
	}
	return errors.Join(in.Err(), out.Flush())
}

func scripted(in *bufio.Scanner) error {
	runtime.GOMAXPROCS(1)
	vm := goja.New()
	if _, err := vm.RunString(script); err != nil {
		return err
	}
	main, ok := goja.AssertFunction(vm.Get("main"))
	if !ok {
		return errors.New("the script has no main")
	}
	return each(in, func(line []byte) ([]byte, error) {
		input := vm.NewObject()
		if err := input.Set("Data", string(line)); err != nil {
			return nil, err
		}
		v, err := main(goja.Undefined(), input)
		if err != nil {
			return nil, err
		}
		return []byte(v.ToObject(vm).Get("Data").String()), nil
	})
}

// logged appends the lines to a file, on the disk after each thousand.
func logged(in *bufio.Scanner) (err error) {
	f, err := os.Create("limit.log")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	const group = 1000
	var buf []byte
	flush := func() error {
		if len(buf) == 0 {
			return nil
		}
		if _, err := f.Write(buf); err != nil {
			return err
		}
		buf = buf[:0]
		return syscall.Fdatasync(int(f.Fd()))
	}
	for n := 1; in.Scan(); n++ {
		buf = append(append(buf, in.Bytes()...), '\n')
		if n%group == 0 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return errors.Join(in.Err(), flush())
}

// encoded makes Parquet files of the lines and writes them to /dev/null.
func encoded(in *bufio.Scanner) error {
	d := parquet.NewDecoder(&parquet.Schema{}, parquet.Options{MaxDepth: 16, MaxColumns: 1000})
	rows := parquet.NewRows()
	n := 0
	flush := func() error {
		err := rows.Write(io.Discard, d.Schema(), nil)
		rows.Release()
		rows, n = parquet.NewRows(), 0
		return err
	}
	for in.Scan() {
		if err := d.Decode(in.Bytes()); err != nil {
			return err
		}
		rows.Append(d)
		if n++; n == lakeFile {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if n > 0 {
		return errors.Join(in.Err(), flush())
	}
	return in.Err()
}
