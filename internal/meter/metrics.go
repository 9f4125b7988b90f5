package meter

import "slices"

// The metrics of pipelines and of the process. Those of queues, stores, machines and connectors
// are in files of their own.
var (
	settleSeconds    = histogram(durations, "weir_settle_seconds", "Time from reading a batch to its last message being settled.", "pipeline")
	transformSeconds = histogram(append([]float64{.00001, .00003, .0001, .0002}, durations...), "weir_transform_seconds", "Time the transforms took for the messages of one read.", "pipeline")
	lagSeconds       = histogram(append(slices.Clone(durations), 300, 1800, 7200, 86400), "weir_lag_seconds", "Age of the oldest message of a batch when the batch is settled.", "pipeline")
	writeSeconds     = histogram(durations, "weir_write_seconds", "Time one write to a target took.", "pipeline", "role")
)

// series is a metric of a pipeline that has a number at every time.
type series struct {
	*Definition
	of func(*Pipeline) int64
}

var perPipeline = []series{
	{counter("weir_read_messages_total", "Messages read from the source.", "pipeline"), func(p *Pipeline) int64 { return p.Read.Load() }},
	{counter("weir_read_bytes_total", "Payload bytes read from the source.", "pipeline"), func(p *Pipeline) int64 { return p.ReadBytes.Load() }},
	{counter("weir_read_errors_total", "Reads that failed and were tried again.", "pipeline"), func(p *Pipeline) int64 { return p.ReadErrors.Load() }},
	{counter("weir_filtered_messages_total", "Messages dropped on purpose by a transform.", "pipeline"), func(p *Pipeline) int64 { return p.Filtered.Load() }},
	{counter("weir_invalid_messages_total", "Messages refused by a transform or a target.", "pipeline"), func(p *Pipeline) int64 { return p.Invalid.Load() }},
	{counter("weir_oversized_messages_total", "Messages larger than the target accepts.", "pipeline"), func(p *Pipeline) int64 { return p.Oversized.Load() }},
	{counter("weir_cut_messages_total", "Failed messages that were cut to fit the failure target and are whole nowhere.", "pipeline"), func(p *Pipeline) int64 { return p.Cut.Load() }},
	{counter("weir_overflow_messages_total", "Failed messages that the failure target cannot hold, kept whole in the store.", "pipeline"), func(p *Pipeline) int64 { return p.Overflowed.Load() }},
	{counter("weir_unsettled_messages_total", "Messages given back to the source undelivered.", "pipeline"), func(p *Pipeline) int64 { return p.Unsettled.Load() }},
	{counter("weir_unconfirmed_messages_total", "Messages settled whose acknowledgement the source could not confirm: they may be delivered again.", "pipeline"), func(p *Pipeline) int64 { return p.Unconfirmed.Load() }},
	{counter("weir_panics_total", "Panics recovered in transforms and targets.", "pipeline"), func(p *Pipeline) int64 { return p.Panics.Load() }},
	{counter("weir_restarts_total", "Starts of the pipeline after a failure.", "pipeline"), func(p *Pipeline) int64 { return p.Restarts.Load() }},
	{gauge("weir_degraded", "1 while the pipeline has failed and waits to be started again, or waits for what its source stands on.", "pipeline"), func(p *Pipeline) int64 { return p.Degraded.Load() }},
	{gauge("weir_in_flight_messages", "Messages read and not settled yet.", "pipeline"), func(p *Pipeline) int64 { return p.InFlight.Load() }},
	{gauge("weir_in_flight_bytes", "Payload bytes read and not settled yet.", "pipeline"), func(p *Pipeline) int64 { return p.InFlightBytes.Load() }},
}

var (
	writtenMessages = counter("weir_written_messages_total", "Messages durable at a target.", "pipeline", "role")
	writtenBytes    = counter("weir_written_bytes_total", "Payload bytes durable at a target.", "pipeline", "role")
	writes          = counter("weir_writes_total", "Write attempts.", "pipeline", "role")
	writeRetries    = counter("weir_write_retries_total", "Write attempts that repeated a failed one.", "pipeline", "role")
	writeFailures   = counter("weir_write_failures_total", "Messages a write attempt failed for, by what the error meant.", "pipeline", "role", "kind")
	reportsDropped  = counter("weir_reports_dropped_total", "What was to be sent to a receiver and was dropped.", "receiver")
	filteredReasons = counter("weir_filtered_reasons_total", "Messages dropped on purpose by a transform, by reason.", "pipeline", "reason")
	leftOutReasons  = counter("weir_destination_left_out_total", "Messages of which a destination got nothing on purpose, by destination and reason, as consent or the integrations of an event; others may have got them. Destinations beyond 1000 of a pipeline, and reasons beyond 100, share the label other.", "pipeline", "destination", "reason")
	stateFailures   = counter("weir_state_failures_total", "Failures of states of a machine, by state, error and what became of them: retried, caught or failed.", "pipeline", "state", "error", "outcome")
	sourceBehind    = [3]*Definition{
		gauge("weir_source_behind_messages", "Messages in the source that were not read when it was asked last.", "pipeline"),
		gauge("weir_source_behind_bytes", "Bytes in the source that were not read when it was asked last.", "pipeline"),
		gauge("weir_source_behind_seconds", "Age of the oldest message in the source that was not read when it was asked last.", "pipeline"),
	}
)

// What stands still, since when, and whose fault that is.
var (
	degradedSince = gauge("weir_degraded_since_timestamp_seconds", "When the pipeline became degraded; not there while it is not.", "pipeline")
	oldestFlight  = gauge("weir_in_flight_oldest_seconds", "How long ago the oldest message was read that is not settled; 0 when none is in flight.", "pipeline")
	lastRead      = gauge("weir_last_read_timestamp_seconds", "When the pipeline read something last; not there before.", "pipeline")
	lastSettled   = gauge("weir_last_settled_timestamp_seconds", "When the messages of a read were settled last; not there before.", "pipeline")
	lastWritten   = gauge("weir_last_written_timestamp_seconds", "When something became durable at the target last; not there before.", "pipeline", "role")
	failingSince  = gauge("weir_failing_since_timestamp_seconds", "Since when writes for a destination fail, or, with an empty destination, writes to the target at all; not there while they succeed. Destinations beyond 1000 of a pipeline share the label other.", "pipeline", "role", "destination")
	blamedOn      = [2]*Definition{
		counter("weir_destination_failures_total", "Messages that a target refused or could not take, by destination and what became of them: again (tried later, counted as often as that), dead (kept in their queue), failed (to the failure target) or cut. What a transform refused has the role failure_target. Destinations beyond 1000 of a pipeline share the label other.", "pipeline", "role", "destination", "outcome"),
		counter("weir_source_failures_total", "The same, by the source of the workspace config that the messages came from.", "pipeline", "role", "source", "outcome"),
	}
	pipelineQueue = gauge("weir_pipeline_queue_info", "Which queue a pipeline or machine reads or writes: joins the metrics of pipelines and of queues.", "pipeline", "queue", "direction")
)

// The process.
var (
	buildInfo   = gauge("weir_build_info", "The version of Weir, the commit it was built from, and the version of Go.", "version", "commit", "go_version")
	memoryLimit = gauge("weir_memory_limit_bytes", "Memory that the process may take, as GOMEMLIMIT, memory_limit_bytes or the container says; 0 is no limit.")
	memoryShort = gauge("weir_memory_short", "1 while new work is put off or refused, since what is in use comes near the memory limit.")
)

// The control planes of workspaces.
var (
	// PlaneAnswered, and what follows it, are of the control plane of a workspace block.
	PlaneAnswered = gauge("weir_control_plane_last_answer_timestamp_seconds", "When a control plane last gave a configuration that could be read, or said that nothing has changed; not there before.", "workspace")
	PlaneChanged  = gauge("weir_control_plane_last_change_timestamp_seconds", "Since when the configuration is in force that this process got from a control plane, or from the cache.", "workspace")
	PlaneFailures = counter("weir_control_plane_failures_total", "Requests to a control plane that brought no configuration, or one that could be read in part only.", "workspace")
)

// What connectors tell. Their labels pipeline and component are added for them.
var (
	// Answers are what a door answered; see [Responses].
	Answers = counter("weir_http_responses_total", "Answers of a source that is called by HTTP, by status.", "pipeline", "component", "status")
	// SourceLeftOut is of a gateway.
	SourceLeftOut = counter("weir_source_left_out_total", "Events that a source was sent, and of which nothing was kept, by reason: suppressed for those of users of whom nothing may be kept.", "pipeline", "component", "reason")
	// SuppressedUsers and SuppressionSynced are of the users of whom nothing may be kept.
	SuppressedUsers   = gauge("weir_suppressed_users", "Users of whom a gateway keeps nothing.", "pipeline", "component")
	SuppressionSynced = gauge("weir_suppression_synced_timestamp_seconds", "When all of the suppressed users were last known to be there; not there before.", "pipeline", "component")
	// CertificateExpiry is of a certificate that is shown to the other side.
	CertificateExpiry = gauge("weir_certificate_expiry_timestamp_seconds", "When the TLS certificate ends that is in use; a file that was replaced counts once it is loaded.", "pipeline", "component")
	// LakeFiles, and what follows it, are of the files of a lake.
	LakeFiles  = counter("weir_lake_files_total", "Data files committed to the lake.", "pipeline", "component")
	LakeBytes  = counter("weir_lake_file_bytes_total", "Bytes of the data files committed to the lake.", "pipeline", "component")
	LakeRows   = counter("weir_lake_rows_total", "Rows of the data files committed to the lake.", "pipeline", "component")
	LakeCommit = gauge("weir_lake_last_commit_timestamp_seconds", "When a data file was committed last by this process; not there before.", "pipeline", "component")
	LakeNewest = gauge("weir_lake_newest_row_timestamp_seconds", "The latest event time among the rows committed by this process: how fresh the lake is; not there before.", "pipeline", "component")
)

// What machines tell, with the label pipeline of the machine.
var (
	executionsStarted = counter("weir_machine_executions_started_total", "Executions of a machine that were started.", "pipeline", "machine")
	executionsEnded   = counter("weir_machine_executions_ended_total", "Executions of a machine that ended, by how: succeeded, failed, aborted or timed_out; refused ones could not be worked on at all.", "pipeline", "machine", "status")
)
