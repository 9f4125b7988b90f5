// Adds what queries ask for: the two parts of the name, and the time as people read it.
function main(input) {
  const e = input.Data;
  const parts = typeof e.event_name === "string" ? e.event_name.split(":") : [];
  if (parts.length !== 2 || parts[0] === "" || parts[1] === "") {
    throw new Error("event_name is not of the form type:subtype");
  }
  if (!Number.isInteger(e.created_at)) {
    throw new Error("created_at is not a whole number of seconds");
  }
  e.event_type = parts[0];
  e.event_subtype = parts[1];
  e.created_datetime = new Date(e.created_at * 1000).toISOString().replace(".000Z", "Z");
  return { Data: e };
}
