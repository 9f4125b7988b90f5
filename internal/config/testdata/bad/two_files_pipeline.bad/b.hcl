pipeline "x" {
}
