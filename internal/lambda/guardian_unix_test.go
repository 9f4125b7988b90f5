//go:build unix

package lambda

// EndGuardian ends the guardian of this process, as somebody else may.
func EndGuardian() error {
	guard.mu.Lock()
	defer guard.mu.Unlock()
	if err := guard.cmd.Process.Kill(); err != nil {
		return err
	}
	_, err := guard.cmd.Process.Wait() // so that its end of the pipe is closed
	return err
}
