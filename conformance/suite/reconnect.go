package suite

func reconnect(check declare) {}
