target {
	use "kafka" {
		brokers	= "b"
		topic_name	= 5 + true
	}
}
