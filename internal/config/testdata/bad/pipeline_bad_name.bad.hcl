pipeline "my pipeline" {
}
