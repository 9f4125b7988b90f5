package config

// BackupTarget is where messages go as they were read.
type BackupTarget struct {
	// The target and its options.
	Use *Use `hcl:"use,block"`
	// Which messages are backed up: "all" (default), or "failed", those of which something fails, in a
	// transform or at a target. Either is what Amazon Data Firehose calls source backup. What was
	// read is settled at the source when it is in the backup and what became of it is durable too;
	// so both are written again where either was not, and the backup may have a message twice.
	// A message that became several is backed up once. What stays where it is read from when it
	// fails, as with keep, is not backed up for that, nor is what weir failures sends again.
	Mode string `hcl:"mode,optional"`
}

// The values of mode.
const (
	BackupAll    = "all"
	BackupFailed = "failed"
)

var backupModes = []string{BackupAll, BackupFailed}

// SetDefaults sets what a backup_target block need not say.
func (b *BackupTarget) SetDefaults() { b.Mode = BackupAll }

// validateBackup refuses a backup without a place.
func (p *Pipeline) validateBackup(ps *problems) {
	b := p.BackupTarget
	if b == nil {
		return
	}
	ps.oneOf("backup_target.mode", backupModes, b.Mode, "unknown mode of a backup_target: "+b.Mode)
	if b.Use == nil {
		ps.add("backup_target", "the backup_target names no target", "write a use block in it")
	}
}
