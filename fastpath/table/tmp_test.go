package table
import ("testing";"time";"runtime";"fmt")
func TestTmp(t *testing.T){
	var m0,m1 runtime.MemStats
	s := big(250_000, 5_000, 10_000)
	runtime.GC(); runtime.ReadMemStats(&m0)
	b := NewBuilder()
	if err := b.Apply(&Delta{Upsert: s}); err != nil { t.Fatal(err) }
	runtime.GC(); runtime.ReadMemStats(&m1)
	fmt.Println("heap MB", float64(m1.HeapAlloc-m0.HeapAlloc)/1e6, "objects", m1.HeapObjects-m0.HeapObjects)
	v := b.Tables().VRF(red)
	t0:=time.Now(); v.routes.Clone(); fmt.Println("clone", time.Since(t0))
	for _, n := range []int{1,100,1000,3000,5000,20000} {
		d := Delta{}
		for i := range n { r := s.Routes[i*11%250000]; r.Label=Label(200+n%1000); d.Upsert.Routes = append(d.Upsert.Routes, r)}
		t0:=time.Now(); if err := b.Apply(&d); err!=nil {t.Fatal(err)}; fmt.Println(n, time.Since(t0))
	}
	t0=time.Now()
	b.Begin(1); fmt.Println(b.Apply(&Delta{Upsert:s}), b.InSync(1)); fmt.Println("replay", time.Since(t0))
	runtime.KeepAlive(s)
}
