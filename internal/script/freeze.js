// Evaluates to a function that freezes everything a script can reach. The functions it
// needs are taken before the script runs.
(() => {
  const { apply, ownKeys, getPrototypeOf, getOwnPropertyDescriptor, defineProperty, preventExtensions } = Reflect;
  const { freeze } = Object;
  const world = globalThis;
  // Prototypes that no name of the global object leads to.
  const hidden = [
    getPrototypeOf(function* () {}), getPrototypeOf(async function () {}), getPrototypeOf(async () => {}),
    getPrototypeOf([][Symbol.iterator]()), getPrototypeOf(new Map().entries()), getPrototypeOf(new Set().values()),
    getPrototypeOf(''[Symbol.iterator]()), getPrototypeOf('a'.matchAll(/a/g)), getPrototypeOf(Int8Array),
  ];
  const iterators = [hidden[3], hidden[4], hidden[5], hidden[6], hidden[7]];
  const generator = getPrototypeOf(getPrototypeOf((function* () {})()));

  // What an object holds beside its properties, told by a function that only works on
  // such objects.
  const getter = (o, name) => getOwnPropertyDescriptor(o, name).get;
  const containers = [getter(Map.prototype, 'size'), getter(Set.prototype, 'size')];
  const holders = [
    getter(ArrayBuffer.prototype, 'byteLength'), getter(DataView.prototype, 'byteLength'),
    WeakMap.prototype.has, WeakSet.prototype.has, Date.prototype.getTime,
  ];
  const probe = [{}];
  const accepts = (list, o) => {
    for (let i = 0; i < list.length; i++) {
      try {
        apply(list[i], o, probe);
        return true;
      } catch {}
    }
    return false;
  };
  const PLAIN = 0, CONTAINER = 1, HOLDER = 2;
  const nature = (o) => {
    if (typeof o !== 'object') return PLAIN;
    const p = getPrototypeOf(o);
    for (let i = 0; i < iterators.length; i++) if (p === iterators[i]) return HOLDER;
    if (p !== null && getPrototypeOf(p) === generator) return HOLDER;
    if (accepts(containers, o)) return CONTAINER;
    return accepts(holders, o) ? HOLDER : PLAIN;
  };

  const enabled = [
    [Object.prototype, ['constructor', 'hasOwnProperty', 'isPrototypeOf', 'propertyIsEnumerable', 'toLocaleString', 'toString', 'valueOf']],
  ];
  for (const E of [Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError]) {
    enabled[enabled.length] = [E.prototype, ['constructor', 'message', 'name', 'toString']];
  }

  return (roots, visit, enable) => {
    const queue = [world];
    for (let i = 0; i < hidden.length; i++) queue[queue.length] = hidden[i];
    for (let i = 0; i < roots.length; i++) queue[queue.length] = roots[i];
    const all = [];
    const expressions = [];
    while (queue.length > 0) {
      const o = queue[queue.length - 1];
      queue.length--;
      if (o === null || (typeof o !== 'object' && typeof o !== 'function')) continue;
      const kind = visit(o, nature(o));
      if (kind === 0) continue;
      if (kind === 2) expressions[expressions.length] = o;
      else all[all.length] = o;
      queue[queue.length] = getPrototypeOf(o);
      const keys = ownKeys(o);
      for (let i = 0; i < keys.length; i++) {
        const d = getOwnPropertyDescriptor(o, keys[i]);
        if (d === undefined) continue;
        if ('value' in d) queue[queue.length] = d.value;
        else {
          queue[queue.length] = d.get;
          queue[queue.length] = d.set;
        }
      }
    }
    for (let i = 0; i < enabled.length; i++) {
      const holder = enabled[i][0];
      const names = enabled[i][1];
      for (let j = 0; j < names.length; j++) {
        const d = getOwnPropertyDescriptor(holder, names[j]);
        if (d !== undefined && 'value' in d) {
          enable(holder, names[j], d.value);
          const own = getOwnPropertyDescriptor(holder, names[j]);
          freeze(own.get);
          freeze(own.set);
        }
      }
    }
    for (let i = 0; i < expressions.length; i++) {
      const o = expressions[i];
      const keys = ownKeys(o);
      for (let j = 0; j < keys.length; j++) {
        if (keys[j] !== 'lastIndex') defineProperty(o, keys[j], { configurable: false });
      }
      preventExtensions(o);
    }
    for (let i = 0; i < all.length; i++) freeze(all[i]);
  };
})()
