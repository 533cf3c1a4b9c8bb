// The few drawings of the page. They are lines in the colour of the text beside them, and never the
// only sign of anything.

import { svgElement } from './dom.js';

const PATHS = {
  ascending: ['M8 12.5v-9', 'M4.5 7 8 3.5 11.5 7'],
  check: ['M3 8.5 6.5 12 13 4.5'],
  close: ['M4 4l8 8', 'M12 4l-8 8'],
  copy: ['M5.5 5.5h8v8h-8z', 'M3 10.5h-.5v-8h8V3'],
  descending: ['M8 3.5v9', 'M4.5 9 8 12.5 11.5 9'],
  key: ['M9.5 9.5a3.5 3.5 0 1 0-3-3L2 11v3h3v-2h2v-2z', 'M11 5h.01'],
  more: ['M3.5 8h.01', 'M8 8h.01', 'M12.5 8h.01'],
  next: ['M6 3.5 10.5 8 6 12.5'],
  plus: ['M8 3v10', 'M3 8h10'],
  previous: ['M10 3.5 5.5 8l4.5 4.5'],
  refresh: ['M13 8a5 5 0 1 1-1.6-3.7', 'M13 2v3h-3'],
  search: ['M7 11.5a4.5 4.5 0 1 0 0-9 4.5 4.5 0 0 0 0 9z', 'M10.5 10.5 14 14'],
  unsorted: ['M5 6 8 3l3 3', 'M5 10l3 3 3-3'],
  warning: ['M8 2.5 14.5 13.5h-13z', 'M8 6.5v3', 'M8 11.5h.01'],
};

/** The drawing of that name, for the eye only. */
export function icon(name) {
  const paths = PATHS[name].map((d) => svgElement('path', { d }));
  return svgElement('svg', { class: `icon icon-${name}`, viewBox: '0 0 16 16', 'aria-hidden': 'true' }, ...paths);
}
