// Turns a line of the combined log format into JSON. Requests of health checks and static
// files are dropped; a line that is no access log entry throws and so becomes a failure.
const entry = /^(\S+) \S+ (\S+) \[([^\]]+)\] "([^"]*)" (\d{3}) (\d+|-) "([^"]*)" "([^"]*)"$/;
const request = /^([A-Z]+) (\S+) (HTTP\/[\d.]+)$/;
const months = { Jan: "01", Feb: "02", Mar: "03", Apr: "04", May: "05", Jun: "06", Jul: "07", Aug: "08", Sep: "09", Oct: "10", Nov: "11", Dec: "12" };

// "12/Nov/2026:09:17:11 +0000" -> "2026-11-12T09:17:11+00:00"
function iso(time) {
  const m = /^(\d\d)\/(\w{3})\/(\d{4}):(\d\d:\d\d:\d\d) ([+-]\d\d)(\d\d)$/.exec(time);
  return m[3] + "-" + months[m[2]] + "-" + m[1] + "T" + m[4] + m[5] + ":" + m[6];
}

function main(input) {
  const m = entry.exec(input.Data);
  if (m === null) {
    throw new Error("not an access log entry");
  }
  const r = request.exec(m[4]);
  const path = r === null ? null : r[2];
  if (path === "/health" || (path !== null && path.startsWith("/static/"))) {
    return { FilterOut: true };
  }
  return {
    PartitionKey: m[1],
    Data: {
      client: m[1],
      user: m[2] === "-" ? null : m[2],
      time: iso(m[3]),
      method: r === null ? null : r[1],
      path: path,
      status: Number(m[5]),
      bytes: m[6] === "-" ? 0 : Number(m[6]),
      referrer: m[7] === "-" ? null : m[7],
      agent: m[8],
    },
  };
}
