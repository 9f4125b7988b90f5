source "stdin" {
}
