// Orders come from Great Britain. PANIC stands for a mistake in this very function.
class ErrInvalidCountryCode extends Error {}

function main(order) {
  switch (order.country_code) {
    case "GB":
      return order
    case "PANIC":
      throw new Error("PANIC")
  }
  throw new ErrInvalidCountryCode("no orders from " + order.country_code)
}
