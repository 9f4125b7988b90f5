queue "events" {}

queue "events" {}

queue "no name" {}
