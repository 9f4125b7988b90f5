source {
  use "kafak" {
  }
}
