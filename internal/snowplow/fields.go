package snowplow

import (
	"slices"

	"github.com/weirdata/weir/internal/spelling"
)

// NumFields is the number of tab-separated fields of an enriched event.
const NumFields = 131

// Field is the position of an atomic field in the line, counted from zero.
type Field uint8

// Kind is the type of an atomic field.
type Kind uint8

// The kinds of fields.
const (
	String   Kind = iota // text, as it stands
	Int                  // a decimal integer
	Double               // a finite decimal number
	Bool                 // "0" or "1"
	Time                 // "2006-01-02 15:04:05.999", UTC
	Contexts             // self-describing JSON holding a list of entities
	Unstruct             // self-describing JSON holding one entity
)

// Fields that are looked up by position.
const (
	CollectorTstamp Field = 3
	EventID         Field = 6
	contextsField   Field = 52
	unstructField   Field = 58
	derivedField    Field = 122
	EventName       Field = 126
	EventVersion    Field = 128
)

var fields = [NumFields]struct {
	name string
	kind Kind
}{
	{"app_id", String},
	{"platform", String},
	{"etl_tstamp", Time},
	{"collector_tstamp", Time},
	{"dvce_created_tstamp", Time},
	{"event", String},
	{"event_id", String},
	{"txn_id", Int},
	{"name_tracker", String},
	{"v_tracker", String},
	{"v_collector", String},
	{"v_etl", String},
	{"user_id", String},
	{"user_ipaddress", String},
	{"user_fingerprint", String},
	{"domain_userid", String},
	{"domain_sessionidx", Int},
	{"network_userid", String},
	{"geo_country", String},
	{"geo_region", String},
	{"geo_city", String},
	{"geo_zipcode", String},
	{"geo_latitude", Double},
	{"geo_longitude", Double},
	{"geo_region_name", String},
	{"ip_isp", String},
	{"ip_organization", String},
	{"ip_domain", String},
	{"ip_netspeed", String},
	{"page_url", String},
	{"page_title", String},
	{"page_referrer", String},
	{"page_urlscheme", String},
	{"page_urlhost", String},
	{"page_urlport", Int},
	{"page_urlpath", String},
	{"page_urlquery", String},
	{"page_urlfragment", String},
	{"refr_urlscheme", String},
	{"refr_urlhost", String},
	{"refr_urlport", Int},
	{"refr_urlpath", String},
	{"refr_urlquery", String},
	{"refr_urlfragment", String},
	{"refr_medium", String},
	{"refr_source", String},
	{"refr_term", String},
	{"mkt_medium", String},
	{"mkt_source", String},
	{"mkt_term", String},
	{"mkt_content", String},
	{"mkt_campaign", String},
	{"contexts", Contexts},
	{"se_category", String},
	{"se_action", String},
	{"se_label", String},
	{"se_property", String},
	{"se_value", String},
	{"unstruct_event", Unstruct},
	{"tr_orderid", String},
	{"tr_affiliation", String},
	{"tr_total", Double},
	{"tr_tax", Double},
	{"tr_shipping", Double},
	{"tr_city", String},
	{"tr_state", String},
	{"tr_country", String},
	{"ti_orderid", String},
	{"ti_sku", String},
	{"ti_name", String},
	{"ti_category", String},
	{"ti_price", Double},
	{"ti_quantity", Int},
	{"pp_xoffset_min", Int},
	{"pp_xoffset_max", Int},
	{"pp_yoffset_min", Int},
	{"pp_yoffset_max", Int},
	{"useragent", String},
	{"br_name", String},
	{"br_family", String},
	{"br_version", String},
	{"br_type", String},
	{"br_renderengine", String},
	{"br_lang", String},
	{"br_features_pdf", Bool},
	{"br_features_flash", Bool},
	{"br_features_java", Bool},
	{"br_features_director", Bool},
	{"br_features_quicktime", Bool},
	{"br_features_realplayer", Bool},
	{"br_features_windowsmedia", Bool},
	{"br_features_gears", Bool},
	{"br_features_silverlight", Bool},
	{"br_cookies", Bool},
	{"br_colordepth", String},
	{"br_viewwidth", Int},
	{"br_viewheight", Int},
	{"os_name", String},
	{"os_family", String},
	{"os_manufacturer", String},
	{"os_timezone", String},
	{"dvce_type", String},
	{"dvce_ismobile", Bool},
	{"dvce_screenwidth", Int},
	{"dvce_screenheight", Int},
	{"doc_charset", String},
	{"doc_width", Int},
	{"doc_height", Int},
	{"tr_currency", String},
	{"tr_total_base", Double},
	{"tr_tax_base", Double},
	{"tr_shipping_base", Double},
	{"ti_currency", String},
	{"ti_price_base", Double},
	{"base_currency", String},
	{"geo_timezone", String},
	{"mkt_clickid", String},
	{"mkt_network", String},
	{"etl_tags", String},
	{"dvce_sent_tstamp", Time},
	{"refr_domain_userid", String},
	{"refr_device_tstamp", Time},
	{"derived_contexts", Contexts},
	{"domain_sessionid", String},
	{"derived_tstamp", Time},
	{"event_vendor", String},
	{"event_name", String},
	{"event_format", String},
	{"event_version", String},
	{"event_fingerprint", String},
	{"true_tstamp", Time},
}

// fieldKeys is the keys as AppendJSON writes them: `"app_id":`.
var fieldByName, fieldKeys = index()

func index() (byName map[string]Field, keys [NumFields]string) {
	byName = make(map[string]Field, NumFields)
	for i := range fields {
		byName[fields[i].name] = Field(i)
		keys[i] = `"` + fields[i].name + `":`
	}
	return byName, keys
}

// String is the field's name, "app_id" for the first.
func (f Field) String() string {
	if int(f) >= NumFields {
		return "unknown"
	}
	return fields[f].name
}

// Kind is the field's type.
func (f Field) Kind() Kind { return fields[f].kind }

// FieldOf is the field with the given name.
func FieldOf(name string) (Field, bool) {
	f, ok := fieldByName[name]
	return f, ok
}

// FieldNames lists the names of all fields in the order of the line.
func FieldNames() []string {
	names := make([]string, NumFields)
	for i := range fields {
		names[i] = fields[i].name
	}
	return names
}

// NearestField is the name of a field closest to a mistyped one, for diagnostics: the
// one with the fewest letters to change, the first in alphabetical order of those.
func NearestField(name string) string {
	names := FieldNames()
	slices.Sort(names)
	return spelling.Closest(name, names)
}
