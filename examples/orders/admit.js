// An order that was put back too often is an orphan, and so is one that came back while the
// stream is drained: somebody has to look at it.
class ErrTooManyAttempts extends Error {}
class ErrDraining extends Error {}

function main(order) {
  const attempt = Number(order.attempt) || 0
  if (attempt >= Number(process.env.MAX_ATTEMPTS)) {
    throw new ErrTooManyAttempts("attempt " + attempt + " was the last one")
  }
  if (process.env.DRAIN === "true" && attempt > 0) {
    throw new ErrDraining("the stream is drained")
  }
  return order
}
