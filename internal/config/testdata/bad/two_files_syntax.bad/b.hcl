target {
