package figures

import (
	"fmt"
	"html"
	"strings"
)

// Bar is the median of one subject, with its range.
type Bar struct {
	Name string
	Summary
	Ours bool // drawn in another colour
}

// Group is the bars of one path.
type Group struct {
	Name string
	Bars []Bar
}

// Panel is one workload; its bars share a scale.
type Panel struct {
	Title  string
	Groups []Group
}

// Sizes of the plot, in pixels.
const (
	plotWidth = 860
	barLeft   = 210 // names stand to the left
	barRight  = 760 // values to the right
	barStep   = 15
	barHeight = 10
	headStep  = 26
)

// Plot draws horizontal bars with their ranges, as an SVG.
func Plot(panels []Panel) string {
	var body strings.Builder
	y := 10
	for _, p := range panels {
		y += headStep
		text(&body, 10, y, "head", p.Title+" (first figure)")
		scale := longest(p)
		for _, g := range p.Groups {
			y += barStep + 4
			text(&body, 10, y, "path", g.Name)
			for i, b := range g.Bars {
				if i > 0 {
					y += barStep
				}
				bar(&body, y, b, scale)
			}
		}
		y += barStep
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">
<style>.head{font-weight:bold;font-size:13px}.path{fill:#555}.value{fill:#333}.ours{fill:#1f77b4}.other{fill:#b8b8b8}.range{stroke:#000}</style>
<rect width="100%%" height="100%%" fill="#fff"/>
%s</svg>
`, plotWidth, y+10, body.String())
}

// longest is the greatest value of a panel.
func longest(p Panel) (most float64) {
	for _, g := range p.Groups {
		for _, b := range g.Bars {
			most = max(most, b.Max)
		}
	}
	return most
}

func bar(body *strings.Builder, y int, b Bar, scale float64) {
	at := func(v float64) float64 {
		if scale == 0 {
			return barLeft
		}
		return barLeft + v/scale*(barRight-barLeft)
	}
	class := "other"
	if b.Ours {
		class = "ours"
	}
	text(body, 90, y, "", b.Name)
	fmt.Fprintf(body, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d"/>`, class, barLeft, y-barHeight+1, at(b.Median)-barLeft, barHeight)
	fmt.Fprintf(body, `<line class="range" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`+"\n", at(b.Min), at(b.Max), y-barHeight/2+1, y-barHeight/2+1)
	text(body, int(at(b.Max))+6, y, "value", Short(b.Median))
}

func text(body *strings.Builder, x, y int, class, s string) {
	fmt.Fprintf(body, `<text class="%s" x="%d" y="%d">%s</text>`+"\n", class, x, y, html.EscapeString(s))
}
