package suite

func format(check declare) {}
