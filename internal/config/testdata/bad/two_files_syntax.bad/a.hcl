source {
