import { type Fate, fateOfDisk, fateOfFirmware, type NamedDisk } from './disk-match.js'
import { FOLDER, type Rewriting } from './rewriting.js'
import { isTree, switchIn, textAt, textsIn, type Tree, type TreeValue, type WrittenTree } from './tree.js'

/** Nodes that change nothing of the content and stand above an image. */
const filters = new Set(['throttle', 'copy-on-read', 'compress', 'preallocate'])

/** The nodes that `-blockdev` defines, by name; rewriting replaces them in place. */
export class BlockNodes {
  readonly #nodes = new Map<string, WrittenTree>()

  add(node: WrittenTree): void {
    const name = textAt(node.tree, 'node-name')
    if (name === undefined) throw new Error('a -blockdev without a node-name')
    this.#nodes.set(name, node)
  }

  has(name: string): boolean {
    return this.#nodes.has(name)
  }

  get(name: string): WrittenTree | undefined {
    return this.#nodes.get(name)
  }

  /** What becomes of the disk whose topmost node is `root`. */
  fate(
    root: string,
    use: { readonly device: string | undefined; readonly firmware: boolean; readonly removable: boolean },
    rewriting: Rewriting,
  ): Fate {
    const chain = this.#chain(root)
    const named: NamedDisk = {
      device: use.device,
      drive: root,
      file: chain.map((tree) => textAt(tree, 'filename')).find((file) => file !== undefined),
      readOnly: chain.some((tree) => isTrue(tree['read-only'])),
      removable: use.removable,
    }
    return use.firmware ? fateOfFirmware(rewriting, named) : fateOfDisk(rewriting, named)
  }

  /** Puts an image below `root`, in place of the one that is there; filters above it stay. */
  replaceImage(root: string, path: string, format: string): void {
    const written = this.#nodes.get(root)
    if (written === undefined) throw new Error(`no node ${root}`)
    const { form, tree } = written
    if (!filters.has(textAt(tree, 'driver') ?? '')) {
      this.#nodes.set(root, { form, tree: this.#image(form, tree, path, format) })
      return
    }
    const below = tree['file']
    if (typeof below === 'string') return this.replaceImage(below, path, format)
    if (!isTree(below)) throw new Error(`node ${root} has nothing below it`)
    this.#nodes.set(root, { form, tree: { ...tree, file: this.#replaced(form, below, path, format) } })
  }

  /** Names of nodes that `roots` need, themselves included. */
  reachable(roots: Iterable<string>): Set<string> {
    const found = new Set<string>()
    const visit = (name: string): void => {
      const node = this.#nodes.get(name)
      if (node === undefined || found.has(name)) return
      found.add(name)
      for (const text of textsIn(node.tree)) visit(text)
    }
    for (const root of roots) visit(root)
    return found
  }

  /** The files and addresses that nodes open, for those which stay as they are. */
  files(names: Iterable<string>): string[] {
    return [...names].flatMap((name) => this.#chain(name).flatMap((tree) => textAt(tree, 'filename') ?? []))
  }

  #replaced(form: WrittenTree['form'], tree: Tree, path: string, format: string): Tree {
    if (!filters.has(textAt(tree, 'driver') ?? '')) return this.#image(form, tree, path, format)
    const below = tree['file']
    if (isTree(below)) return { ...tree, file: this.#replaced(form, below, path, format) }
    if (typeof below !== 'string') throw new Error('a filter has nothing below it')
    this.replaceImage(below, path, format)
    return tree
  }

  #image(form: WrittenTree['form'], tree: Tree, path: string, format: string): Tree {
    // How the file is used may stand at the image or at the file below it, which goes.
    const below = this.#below(tree)
    return {
      driver: format,
      ...pick(tree, ['node-name', 'discard', 'detect-zeroes', 'cache']),
      'read-only': switchIn(form, false),
      file: {
        driver: 'file',
        filename: path,
        ...pick(tree, ['aio', 'locking']),
        ...pick(below ?? {}, ['aio', 'locking', 'cache', 'discard']),
      },
    }
  }

  /** From the topmost node down to the file, through `file`. */
  #chain(root: string): Tree[] {
    const chain: Tree[] = []
    let tree = this.#nodes.get(root)?.tree
    while (tree !== undefined && chain.length < 32) {
      chain.push(tree)
      tree = this.#below(tree)
    }
    return chain
  }

  #below(tree: Tree): Tree | undefined {
    const below = tree['file']
    if (isTree(below)) return below
    return typeof below === 'string' ? this.#nodes.get(below)?.tree : undefined
  }
}

/** Points nodes at restored images. Whether the node, and what uses it, stays. */
export function applyFate(nodes: BlockNodes, root: string, fate: Fate, rewriting: Rewriting): boolean {
  switch (fate.kind) {
    case 'store': {
      const { store, file, format } = fate.restored
      rewriting.changed(`disk ${store} (node ${root}) is ${file} (${format}), in place of ${fate.was}`)
      nodes.replaceImage(root, `${FOLDER}/${file}`, format)
      return true
    }
    case 'copy':
      rewriting.changed(`the firmware's variables (node ${root}) are ${fate.file}, in place of ${fate.was}`)
      nodes.replaceImage(root, `${FOLDER}/config/${fate.file}`, fate.format)
      return true
    case 'host':
      for (const file of nodes.files(nodes.reachable([root]))) {
        rewriting.needsOnHost(`${file} (node ${root}), which is only read`)
      }
      return true
    case 'empty':
      rewriting.changed(`no medium in the drive that had ${fate.was} (node ${root})`)
      return false
    case 'gone':
      rewriting.changed(`without the disk ${fate.was} (node ${root}), which is not in this point`)
      return false
  }
}

function pick(tree: Tree, keys: readonly string[]): Tree {
  return Object.fromEntries(keys.flatMap((key) => (tree[key] === undefined ? [] : [[key, tree[key]]])))
}

function isTrue(value: TreeValue | undefined): boolean {
  return value === true || value === 'on' || value === 'true' || value === 'yes'
}
