transform {
  use "js" {
    # upper-cases the app id
    script        = <<SCRIPT
function main(input) {
  var event = JSON.parse(input.Data);
  event.app_id = `$${event.app_id}`.toUpperCase();
  return { Data: event };
}
SCRIPT
    timeout_sec   = 20
    snowplow_mode = false
  }
  use "js" {
    script = "function main(x) { return x; }"
  }
  use "js" {
    script = base64decode(env.SCRIPT_B64)
  }
}
