package workspace

import "fmt"

// Feature is what a workspace may ask for beside sources, destinations and connections.
type Feature string

// The features.
const (
	UserTransformations Feature = "user transformations"
	TrackingPlans       Feature = "tracking plans"
	GeoEnrichment       Feature = "geoEnrichment"
	TransientSources    Feature = "transient"
	WebhookSources      Feature = "webhook sources"
	SourceHydration     Feature = "hydration"
	EventReplays        Feature = "eventReplays"
	EventAudit          Feature = "eventAuditEnabled"
	GatewayDumps        Feature = "gatewayDumps"
)

// Built says which features there are. It is the one place that does: a workspace that asks for
// another one is told so when it is loaded, and by weir check, and never served as if it had not
// asked. Whoever builds a feature writes true here.
var Built = map[Feature]bool{
	UserTransformations: true,
	TrackingPlans:       true,
	GeoEnrichment:       true,
	TransientSources:    true,
	WebhookSources:      true,
	SourceHydration:     false,
	EventReplays:        false,
	EventAudit:          false,
	GatewayDumps:        true,
}

// missing is what a workspace asks for that is not built, and what that means for its events;
// empty when nothing is missing.
func missing(asked bool, f Feature, what string) string {
	if !asked || Built[f] {
		return ""
	}
	return "asks for what is not built, " + what
}

// asks is what a source asks for and does not get.
func (s *Source) asks(hydration bool) (all []string) {
	add := func(asked bool, f Feature, what string) {
		if text := missing(asked, f, what); text != "" {
			all = append(all, text)
		}
	}
	add(s.TrackingPlan != nil, TrackingPlans, fmt.Sprintf("the tracking plan %s: its events are not validated", s.planID()))
	add(s.GeoEnrichment, GeoEnrichment, "geoEnrichment: its events get no location")
	add(s.Transient, TransientSources, "transient: its events are kept like others until they are delivered")
	add(s.Category == "webhook", WebhookSources, "/v1/webhook: who calls that is answered 404")
	add(hydration, SourceHydration, "hydration: what its events leave out is not fetched")
	return all
}

func (s *Source) planID() string {
	if s.TrackingPlan == nil {
		return ""
	}
	return s.TrackingPlan.ID
}

// asks is what the settings of a workspace ask for and do not get.
func (d *settingsDocument) asks(replays bool) (all []string) {
	add := func(asked bool, f Feature, what string) {
		if text := missing(asked, f, what); text != "" {
			all = append(all, text)
		}
	}
	add(replays, EventReplays, "eventReplays: archived events are not sent again")
	add(d.EventAudit, EventAudit, "settings.eventAuditEnabled: schemas of events are not collected")
	if d.Retention.Preferences.GatewayDumps {
		all = append(all, "asks for an archive by settings.dataRetention.storagePreferences.gatewayDumps: there is one where the collect block has a block archive, which says where")
	}
	return all
}
