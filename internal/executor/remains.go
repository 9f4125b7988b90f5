package executor

import (
	"context"
	"strings"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/queue"
)

// Remains lists the records of an execution that has no job any more once j, a job of a queue of
// a machine, is dropped. What other jobs it has find no execution, and are done.
func Remains(ctx context.Context, s queue.Store, j *queue.Job) (keys [][]byte, err error) {
	name, ok := strings.CutPrefix(j.Queue, connector.StartQueue(""))
	if !ok {
		return nil, nil
	}
	if failed := j.Msg.Meta.Headers.Text(headerFailed); failed != "" {
		m := Machine{o: Options{Name: name}}
		return [][]byte{m.failedKey(failed)}, nil
	}
	name, steps := strings.CutSuffix(name, strings.TrimPrefix(connector.StepQueue(""), connector.StartQueue("")))
	var job stepJob
	if !steps || job.read(j.Msg.Data) != nil || job.Execution == "" {
		return nil, nil //nolint:nilerr // a job that cannot be read belongs to no execution
	}
	m := Machine{o: Options{Name: name}}
	keys = append(keys, m.stateKey(job.Execution))
	err = s.View(ctx, func(r queue.Reader) error {
		keys = keys[:1]
		for rec, err := range r.Scan([]byte("machine/"+name+"/p/"+job.Execution+"/"), nil) {
			if err != nil {
				return err
			}
			keys = append(keys, rec.Key)
		}
		return nil
	})
	return keys, err
}
