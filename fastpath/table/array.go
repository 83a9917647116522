package table

// Pages are small enough to copy for one change and large enough to keep the
// root short: 2^22 next hops are a root of 16,384 pointers.
const (
	pageBits = 8
	pageSize = 1 << pageBits
	pageMask = pageSize - 1
)

// array is a sparse slice whose versions share pages. A version that was
// published never changes: set copies the root and the page unless the same
// edit has copied them already. Values that were never set are zero.
type array[T any] struct {
	pages []*page[T]
	edit  uint64 // the edit that owns pages (the slice, not what it points to)
}

type page[T any] struct {
	edit uint64 // the edit that owns this page
	at   [pageSize]T
}

// get returns the value at i. Two loads, no allocation.
func (a *array[T]) get(i uint32) (v T) {
	if p := int(i >> pageBits); p < len(a.pages) {
		if pg := a.pages[p]; pg != nil {
			return pg.at[i&pageMask]
		}
	}
	return v
}

// set stores v at i in the version that edit is making.
func (a *array[T]) set(edit uint64, i uint32, v T) {
	p := int(i >> pageBits)
	if a.edit != edit || p >= len(a.pages) {
		pages := make([]*page[T], max(len(a.pages), p+1))
		copy(pages, a.pages)
		a.pages, a.edit = pages, edit
	}
	pg := a.pages[p]
	if pg == nil || pg.edit != edit {
		fresh := &page[T]{edit: edit}
		if pg != nil {
			fresh.at = pg.at
		}
		pg, a.pages[p] = fresh, fresh
	}
	pg.at[i&pageMask] = v
}

// all calls visit for every index of a page that exists, in order.
func (a *array[T]) all(visit func(i uint32, v T)) {
	for p, pg := range a.pages {
		if pg == nil {
			continue
		}
		for i, v := range pg.at {
			visit(uint32(p<<pageBits|i), v)
		}
	}
}
