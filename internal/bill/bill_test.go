package bill

import "testing"

func TestBuiltInTableIsRead(t *testing.T) {
	table, err := Parse("prices.toml", builtIn)
	if err != nil {
		t.Fatal(err)
	}
	if table.Date == "" || len(table.places) < 10 {
		t.Errorf("%+v", table)
	}
	e, w, err := table.Restoring(Place{"aws", "s3", "eu-central-1"}, []Object{{Class: "DEEP_ARCHIVE", Bytes: 100 << 30}}, "bulk", 7)
	t.Logf("%+v %v %v", e, w, err)
	e, w, err = table.Restoring(Place{"localhost", "s3", ""}, []Object{{Class: "DEEP_ARCHIVE", Bytes: 100 << 30}}, "bulk", 7)
	t.Logf("%+v %v %v", e, w, err)
}
