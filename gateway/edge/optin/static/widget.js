/* Assent's consent pop-up, for a shop's page:
   <script src="https://gateway.example/c/widget.js" data-form="acme" async></script>
   data-lang="zh|en"     the language; else the page's own
   data-open="manual"    open only on document.dispatchEvent(new Event('assent:open'))
   The page needs `script-src` and `frame-src` of the gateway's origin, nothing else. What becomes of it is told by the
   event `assent:outcome` on document, detail {form, outcome: granted | declined | pending | refused | unavailable}. */
(function () {
  'use strict';
  var script = document.currentScript;
  if (!script || !script.dataset.form) return;
  var name = script.dataset.form;
  var own = new URL(script.src).origin;
  var said = script.dataset.lang || document.documentElement.lang || navigator.language || '';
  var lang = /^en/i.test(said) ? 'en' : 'zh';
  var words = lang === 'en' ? { close: 'No thanks', label: 'Consent to messages' } : { close: '不用了', label: '短信授权' };
  var remembered = 'assent:' + name;
  var open = null;

  function recall() {
    try { return localStorage.getItem(remembered); } catch (error) { return null; }
  }
  function remember(outcome) {
    try { localStorage.setItem(remembered, outcome); } catch (error) { /* it asks again on the next page */ }
  }
  function dress(element, style) {
    Object.keys(style).forEach(function (key) { element.style[key] = style[key]; });
    return element;
  }
  function make(tag, attributes, style) {
    var element = document.createElement(tag);
    Object.keys(attributes).forEach(function (key) { element.setAttribute(key, attributes[key]); });
    return dress(element, style);
  }
  function tell(outcome) {
    document.dispatchEvent(new CustomEvent('assent:outcome', { detail: { form: name, outcome: outcome } }));
  }

  function show() {
    if (open) return;
    var before = document.activeElement;
    var outcome = null;
    var ready = false;
    var layer = make('div', { 'data-assent': name }, {
      position: 'fixed', inset: '0', zIndex: '2147483000', visibility: 'hidden', display: 'flex', alignItems: 'center',
      justifyContent: 'center', padding: '12px', background: 'rgba(20,26,36,.5)'
    });
    var dialog = make('div', { role: 'dialog', 'aria-modal': 'true', 'aria-label': words.label, lang: lang === 'en' ? 'en' : 'zh-CN' }, {
      display: 'flex', flexDirection: 'column', boxSizing: 'border-box', width: '100%', maxWidth: '480px',
      maxHeight: '100%', overflow: 'hidden', background: '#fff', borderRadius: '12px', boxShadow: '0 12px 40px rgba(0,0,0,.3)'
    });
    var frame = make('iframe', {
      title: words.label, sandbox: 'allow-scripts allow-forms allow-same-origin allow-popups allow-popups-to-escape-sandbox',
      referrerpolicy: 'strict-origin', src: own + '/c/' + encodeURIComponent(name) + '?embed=1&lang=' + lang + '&page=' + encodeURIComponent(location.href.split('#')[0].slice(0, 900))
    }, { display: 'block', width: '100%', height: '620px', minHeight: '0', flex: '0 1 auto', border: '0' });
    var close = make('button', { type: 'button' }, {
      flex: 'none', alignSelf: 'stretch', minHeight: '44px', margin: '0', padding: '8px 16px', border: '0',
      borderBottom: '1px solid #d9dde3', background: '#fff', color: '#0b5394', font: '600 16px/1.4 system-ui, sans-serif',
      textAlign: 'right', cursor: 'pointer', outlineOffset: '-4px'
    });
    close.textContent = words.close;
    var first = make('span', { tabindex: '0', 'aria-hidden': 'true' }, {});
    var last = make('span', { tabindex: '0', 'aria-hidden': 'true' }, {});

    function end(what) {
      if (open !== end) return;
      open = null;
      clearTimeout(patience);
      window.removeEventListener('message', hear);
      document.removeEventListener('keydown', key, true);
      layer.remove();
      if (ready && before && before.focus) before.focus();
      if (what !== 'unavailable') remember(what);
      tell(what);
    }
    function leave() { end(outcome || 'declined'); }
    function key(event) {
      if (ready && event.key === 'Escape') { event.stopPropagation(); leave(); }
    }
    function hear(event) {
      if (event.origin !== own || event.source !== frame.contentWindow) return;
      var said = event.data;
      if (!said || said.assent !== name) return;
      if (said.type === 'declined') end('declined');
      else if (said.type === 'close') leave();
      else if (said.type === 'size') frame.style.height = Math.max(120, Math.min(+said.height || 0, 2000)) + 'px';
      else if (said.type === 'step') {
        if (said.step === 'done') { outcome = 'granted'; remember('granted'); }
        else if (said.step === 'refused') outcome = 'refused';
        else if (said.step === 'code') outcome = 'pending';
        else outcome = null;
        close.textContent = said.step === 'form' ? words.close : (lang === 'en' ? 'Close' : '关闭');
        dialog.setAttribute('aria-label', String(said.title || words.label).slice(0, 200));
        if (!ready) {
          ready = true;
          clearTimeout(patience);
          layer.style.visibility = 'visible';
          close.focus();
        }
      }
    }

    close.addEventListener('click', leave);
    first.addEventListener('focus', function () { frame.focus(); });
    last.addEventListener('focus', function () { close.focus(); });
    window.addEventListener('message', hear);
    document.addEventListener('keydown', key, true);
    [first, close, frame, last].forEach(function (part) { dialog.appendChild(part); });
    layer.appendChild(dialog);
    /* Until the form answers there is nothing to see: a form that may not be shown here never covers the page. */
    var patience = setTimeout(function () { end('unavailable'); }, 10000);
    open = end;
    document.body.appendChild(layer);
  }

  document.addEventListener('assent:open', show);
  function begin() {
    if (script.dataset.open !== 'manual' && !recall()) show();
  }
  if (document.body) begin(); else document.addEventListener('DOMContentLoaded', begin);
})();
