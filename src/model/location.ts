/** Where an object's bytes can be read by ranges; serialisable, so that workers read for themselves. */
export type ObjectLocation =
  | { readonly kind: 'file'; readonly path: string; readonly bytes: number }
  | { readonly kind: 'shared'; readonly buffer: SharedArrayBuffer; readonly bytes: number }
