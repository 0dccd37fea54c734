package suite

func service(check declare) {}
