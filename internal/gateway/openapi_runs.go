package gateway

import "github.com/weirdata/weir/internal/runs"

// describeRuns adds the status of job runs, which package runs serves.
func describeRuns(paths m) {
	of := func(method, name, about string, responses m, more ...any) m {
		return m{
			"summary": about, "operationId": method + "_" + name, "security": []any{}, "tags": []string{"internal"}, "responses": responses,
			"parameters": append([]any{
				parameter("path", "run", true, "The name of the run."),
				parameter("query", "task_run_id", false, "Only this task; may be there several times."),
				parameter("query", "source_id", false, "Only this source; may be there several times."),
			}, more...),
		}
	}
	failed := text("The store cannot be read or written now.")
	paths[runs.Path+"{run}"] = m{
		"get": of("get", "job_status", "How many events of a run came in, went out and failed.",
			m{"200": answers("application/json", "The counts, by task, source and destination."), "404": text("Nothing of the run is known."), "500": failed}),
		"delete": of("delete", "job_status", "Forgets a run that is completed.",
			m{"204": text("It is forgotten."), "400": text("A source of it is not completed."), "404": text("Nothing of the run is known."), "500": failed}),
	}
	paths[runs.DrainPath+"{run}"] = m{"put": m{
		"summary": "Cancels a run: its events that are not delivered yet are given up.", "operationId": "put_drain_job", "security": []any{}, "tags": []string{"internal"},
		"parameters": []any{parameter("path", "run", true, "The name of the run.")},
		"responses":  m{"201": text("It is cancelled."), "500": failed},
	}}
	paths[runs.Path+"{run}/failed-records"] = m{
		"get": of("get", "failed_records", "The recordIds of the events of a run that failed.",
			m{"200": answers("application/json", "The records, by task, source and destination."), "400": text("The size or the token of the page cannot be read."), "500": failed},
			parameter("query", "pageSize", false, "Most records of the answer; at most, and by default, 10000."),
			parameter("query", "pageToken", false, "Where the page begins: paging.next of the answer before.")),
		"delete": of("delete", "failed_records", "Forgets the records that failed.", m{"204": text("They are forgotten."), "500": failed}),
	}
}
