// Reads profiles with speedscope's own importer, and prints what it holds: the sum of the column that it shows,
// and each name with what it has itself.
// Arguments: the folder node_modules, files.
import fs from 'node:fs'
import path from 'node:path'
import vm from 'node:vm'
import zlib from 'node:zlib'

const [modules, ...files] = process.argv.slice(2)
const release = path.join(modules, 'speedscope/dist/release')
const bundle = fs.readdirSync(release).find(name => /^speedscope-.*\.js$/.test(name))
let source = fs.readFileSync(path.join(release, bundle), 'utf8')

// The package is one application for browsers. Its importer is the function that decodes the message; behind it
// stands what must have run before.
const decode = source.indexOf('perftools.profiles.Profile.decode(new Uint8Array(')
const start = source.lastIndexOf('function ', decode)
const name = /^function ([\w$]+)\(/.exec(source.slice(start))[1]
const prepare = /\.build\(\)\}var (?:[\w$]+,)*([\w$]+)=re\(/.exec(source.slice(decode))[1]
const opening = '"use strict";(()=>{'
if (!source.startsWith(opening)) throw new Error('speedscope is packed in another way')
source = opening + `globalThis.read=bytes=>(${prepare}(),${name}(bytes));` + source.slice(opening.length)

// A browser in which nothing is ever shown.
const nothing = new Proxy(function () {}, {
  get: (_, key) => (key === Symbol.toPrimitive ? () => '' : key === Symbol.iterator ? undefined : nothing),
  apply: () => nothing,
  construct: () => nothing,
  set: () => true,
})
const silent = { ...console, error() {}, log() {}, warn() {} }
const context = { console: silent, TextDecoder, TextEncoder, URL, setTimeout: () => 0, clearTimeout() {} }
for (const name of [
  'document', 'navigator', 'localStorage', 'location', 'matchMedia', 'requestAnimationFrame',
  'addEventListener', 'HTMLElement', 'Image', 'Element', 'FontFace', 'getComputedStyle',
])
  context[name] = nothing
context.window = context
vm.createContext(context)
try {
  vm.runInContext(source, context)
} catch (error) {
  // The application does not start without a browser; its importer is there.
  if (typeof context.read !== 'function') throw error
}

for (const file of files) {
  const profile = context.read(zlib.gunzipSync(fs.readFileSync(file)))
  if (profile === null) throw new Error(`speedscope refuses ${file}`)
  console.log(`file ${file}`)
  console.log(`total ${profile.getTotalWeight()}`)
  profile.forEachFrame(frame => console.log(`name ${frame.name} ${frame.getSelfWeight()}`))
}
