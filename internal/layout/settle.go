package layout

// settle gives all points their places, the part beginning at top, and the edges their points.
// It returns where the part ends along the layers, and its height.
func (p *placing) settle(top float64) (end, height float64) {
	for _, l := range p.layers { // side by side, to begin with
		at := 0.0
		for k, i := range l {
			if k > 0 {
				at += p.apart(l[k-1], i)
			}
			p.points[i].at = at
		}
	}
	most := p.sweeps()
	for round := range 2 * most {
		for k := range p.layers {
			if round%2 == 0 {
				p.level(p.layers[k], true, round > most)
			} else {
				p.level(p.layers[len(p.layers)-1-k], false, round > most)
			}
		}
	}
	low, high := 0.0, 0.0
	for i, q := range p.points {
		if i == 0 {
			low, high = q.at-q.h/2, q.at+q.h/2
		}
		low, high = min(low, q.at-q.h/2), max(high, q.at+q.h/2)
	}
	for i := range p.points {
		p.points[i].at += top - low
	}
	end = p.columns()
	for _, e := range p.loops {
		high = max(high, low+p.loop(e)-top)
	}
	return end, high - low
}

// apart is how far the middles of two neighbours of a layer are at least.
func (p *placing) apart(a, b int) float64 {
	gap := nodeGap
	if p.points[a].node < 0 || p.points[b].node < 0 {
		gap = bendGap
	}
	return (p.points[a].h+p.points[b].h)/2 + gap
}

// level moves the points of a layer as near to the middles of their neighbours as order and
// distance let them: the least sum of squares, by pooling adjacent violators.
func (p *placing) level(l []int, before, both bool) {
	type block struct {
		sum, weight float64
		n           int
	}
	var blocks []block
	offset := make([]float64, len(l))
	for k, i := range l {
		if k > 0 {
			offset[k] = offset[k-1] + p.apart(l[k-1], i)
		}
		want, weight := p.wanted(i, before, both)
		b := block{(want - offset[k]) * weight, weight, 1}
		for len(blocks) > 0 {
			last := blocks[len(blocks)-1]
			if last.sum/last.weight < b.sum/b.weight {
				break
			}
			b = block{b.sum + last.sum, b.weight + last.weight, b.n + last.n}
			blocks = blocks[:len(blocks)-1]
		}
		blocks = append(blocks, b)
	}
	k := 0
	for _, b := range blocks {
		for range b.n {
			p.points[l[k]].at = b.sum/b.weight + offset[k]
			k++
		}
	}
}

// wanted is where a point would be best, and how much that counts: an edge that passes layers
// should be straight.
func (p *placing) wanted(i int, before, both bool) (at, weight float64) {
	q := &p.points[i]
	near := q.after
	if before {
		near = q.before
	}
	sum, n := 0.0, 0.0
	for _, other := range near {
		sum, n = sum+p.points[other].at, n+1
	}
	if both || n == 0 {
		far := q.before
		if before {
			far = q.after
		}
		for _, other := range far {
			sum, n = sum+p.points[other].at, n+1
		}
	}
	if n == 0 {
		return q.at, 0.1
	}
	if q.node < 0 {
		return sum / n, 4
	}
	return sum / n, 1
}

// columns places layers one behind the other and says where the last ends.
func (p *placing) columns() float64 {
	at := margin
	begin, width := make([]float64, len(p.layers)), make([]float64, len(p.layers))
	for k, l := range p.layers {
		for _, i := range l {
			width[k] = max(width[k], p.points[i].w)
		}
		begin[k] = at
		at += width[k] + layerGap
	}
	for _, q := range p.points {
		if q.node >= 0 {
			n := &p.g.Nodes[q.node]
			n.X, n.Y = begin[q.layer], q.at-q.h/2
		}
	}
	for _, r := range p.whole {
		e := &p.g.Edges[r.edge]
		e.Points = e.Points[:0]
		for k, i := range r.points {
			q := &p.points[i]
			left, right := begin[q.layer], begin[q.layer]+width[q.layer]
			if q.node >= 0 {
				right = left + q.w
			}
			switch k {
			case 0:
				e.Points = append(e.Points, [2]float64{right, q.at})
			case len(r.points) - 1:
				e.Points = append(e.Points, [2]float64{left, q.at})
			default:
				e.Points = append(e.Points, [2]float64{left, q.at}, [2]float64{right, q.at})
			}
		}
		if r.back {
			for a, b := 0, len(e.Points)-1; a < b; a, b = a+1, b-1 {
				e.Points[a], e.Points[b] = e.Points[b], e.Points[a]
			}
		}
	}
	return at - layerGap
}

// loop draws the edge of a node to itself below it, and returns how far down that is.
func (p *placing) loop(edge int) float64 {
	e := &p.g.Edges[edge]
	for i := range p.g.Nodes {
		if n := &p.g.Nodes[i]; n.ID == e.From {
			bottom, middle, half := n.Y+n.H+bendGap, n.X+n.W/2, min(loopWidth, n.W)/2
			e.Points = [][2]float64{{middle + half, n.Y + n.H}, {middle + half, bottom}, {middle - half, bottom}, {middle - half, n.Y + n.H}}
			return bottom
		}
	}
	return 0
}
