package wire

// at names the fault points of a room: "ledger/append". Where nothing is to fail the rooms are given nothing to call.
func at(room string, fault func(string)) func(string) {
	if fault == nil {
		return nil
	}
	return func(point string) { fault(room + "/" + point) }
}
