kubernetes {
  replicas = 3
}
