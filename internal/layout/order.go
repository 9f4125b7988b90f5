package layout

import (
	"cmp"
	"slices"
)

// sweeps is how often all layers are looked at, in each direction: 12 times, and less often where
// there are thousands of points, of which nobody sees each.
func (p *placing) sweeps() int { return max(2, min(12, 12_000/len(p.points))) }

// arrange finds an order within each layer with few crossings.
func (p *placing) arrange() {
	best := p.order()
	least := p.crossings()
	for round := 0; round < 2*p.sweeps() && least > 0; round++ {
		p.sweep(round%2 == 0)
		p.swap()
		if n := p.crossings(); n < least {
			least, best = n, p.order()
		}
	}
	p.layers = best
	p.number()
}

func (p *placing) order() [][]int {
	all := make([][]int, len(p.layers))
	for i, l := range p.layers {
		all[i] = slices.Clone(l)
	}
	return all
}

// number lets at be the place in the order.
func (p *placing) number() {
	for _, l := range p.layers {
		for k, i := range l {
			p.points[i].at = float64(k)
		}
	}
}

// sweep sorts each layer by the middle of the neighbours in the one before it, or behind it.
func (p *placing) sweep(forward bool) {
	p.number()
	for k := range p.layers {
		l := p.layers[k]
		if !forward {
			l = p.layers[len(p.layers)-1-k]
		}
		for _, i := range l {
			near := p.points[i].before
			if !forward {
				near = p.points[i].after
			}
			p.points[i].middle = p.points[i].at
			if len(near) > 0 {
				sum := 0.0
				for _, n := range near {
					sum += p.points[n].at
				}
				p.points[i].middle = sum / float64(len(near))
			}
		}
		slices.SortStableFunc(l, func(a, b int) int { return cmp.Compare(p.points[a].middle, p.points[b].middle) })
		for k, i := range l {
			p.points[i].at = float64(k)
		}
	}
}

// swap exchanges neighbours of a layer where that leaves fewer crossings.
func (p *placing) swap() {
	p.number()
	for _, l := range p.layers {
		for k := 1; k < len(l); k++ {
			a, b := &p.points[l[k-1]], &p.points[l[k]]
			if p.between(a.before, b.before)+p.between(a.after, b.after) > p.between(b.before, a.before)+p.between(b.after, a.after) {
				l[k-1], l[k] = l[k], l[k-1]
				a.at, b.at = b.at, a.at
			}
		}
	}
}

// between is how many edges of two neighbours cross when the first is before the second.
func (p *placing) between(first, second []int) int {
	n := 0
	for _, a := range first {
		for _, b := range second {
			if p.points[a].at > p.points[b].at {
				n++
			}
		}
	}
	return n
}

// crossings is how many edges cross.
func (p *placing) crossings() int {
	p.number()
	n := 0
	var ends []int
	for _, l := range p.layers {
		ends = ends[:0]
		width := 0
		for _, i := range l {
			here := len(ends)
			for _, to := range p.points[i].after {
				at := int(p.points[to].at)
				ends, width = append(ends, at), max(width, at+1)
			}
			slices.Sort(ends[here:])
		}
		n += inversions(ends, width)
	}
	return n
}

// inversions is how many pairs of numbers below limit are in falling order, counted in a Fenwick
// tree.
func inversions(numbers []int, limit int) int {
	tree := make([]int, limit+1)
	n := 0
	for k, v := range numbers {
		notLarger := 0
		for i := v + 1; i > 0; i -= i & -i {
			notLarger += tree[i]
		}
		n += k - notLarger
		for i := v + 1; i <= limit; i += i & -i {
			tree[i]++
		}
	}
	return n
}
