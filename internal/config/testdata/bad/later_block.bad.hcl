queue "events" {
}
