// What goes back to the stream is the order, with one more attempt and without the error.
function main(order) {
  return { ...order, attempt: (Number(order.attempt) || 0) + 1, error: undefined }
}
