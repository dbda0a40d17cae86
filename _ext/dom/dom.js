/* Elements: how the scripts of a page make, name and steer them.

   Pages must work from the disk, where a browser forbids a script to import another. So these functions lie
   in one frozen object on the window, and this script comes before those that use it. Every script keeps all
   other names to itself, in a block. */
"use strict";

{
  // An element of HTML: attributes, listeners (their names begin with "on"), then what is inside.
  const make = (tag, attributes = {}, ...inside) => fill(document.createElement(tag), attributes, inside);

  // The same of SVG.
  const draw = (tag, attributes = {}, ...inside) =>
    fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, inside);

  // What is undefined or false is no attribute, what is true an empty one; null is nothing inside.
  function fill(element, attributes, inside = []) {
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value !== undefined && value !== false)
        element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...inside.filter((part) => part !== null));
    return element;
  }

  const button = (name, press) => make("button", { type: "button", onclick: press }, name);

  // Radio buttons of one group, each in its label. `options` is value → words.
  function radios(group, options, change) {
    return Object.entries(options).map(([value, words]) => {
      const input = make("input", { type: "radio", name: group, value, onchange: () => change(value) });
      return make("label", {}, input, make("span", {}, words));
    });
  }

  // What stands in a live region is read aloud when it changes; to set it again to the same would repeat it.
  function announce(region, ...parts) {
    const text = parts.map((part) => part.textContent ?? part).join("");
    if (region.textContent !== text) region.replaceChildren(...parts);
  }

  // Where an arrow key leads in a list (one column) or a grid, which has one stop for the tab key.
  function arrows(event, at, columns, count) {
    if (event.ctrlKey || event.altKey || event.metaKey) return at;
    const row = columns > 1 ? columns : count;
    const start = at - (at % row);
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    const ends = { Home: start, End: start + row - 1 };
    const to = ends[event.key] ?? at + steps[event.key];
    if (Number.isNaN(to)) return at;
    event.preventDefault();
    const alongRow = columns > 1 && Math.abs(steps[event.key]) === 1;
    if (alongRow && (to < start || to >= start + row)) return at;
    return to >= 0 && to < count ? to : at;
  }

  window.dom = Object.freeze({ make, draw, fill, button, radios, announce, arrows });
}
