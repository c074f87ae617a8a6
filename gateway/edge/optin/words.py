"""What the pages after the form say, and what is said when something is not right, in both languages.

The form's own page is not here: its words are part of what is recorded as shown (`contract.form`).
"""

from gateway.contract.form import Locale

WORDS: dict[Locale, dict[str, str]] = {
    "zh": {
        "number": "请填写有效的手机号码，例如 13800138000。",
        "topics": "请至少勾选一项；如果都不需要，请选择“{decline}”。",
        "scripted": "请您本人勾选。本页不接受由程序代为勾选的同意。",
        "changed": "表单内容刚刚更新，请重新阅读并勾选。",
        "wait": "请求过于频繁，请稍后再试。",
        "away": "服务暂时不可用，您的选择尚未提交，请稍后重试。",
        "code_title": "请确认这是您的号码",
        "code_sent": "如果 {number} 可以接收我们的短信，您将很快收到一条确认短信。没有收到？请一分钟后重新开始。",
        "code_label": "短信中的6位验证码",
        "code_hint": "验证码10分钟内有效；您也可以在24小时内直接回复短信“Y”确认。不确认则视为不同意。",
        "code_submit": "确认订阅",
        "code_wrong": "验证码不正确或已失效。请核对短信，或重新开始。",
        "again": "重新开始",
        "done_title": "订阅成功",
        "done": "已记录您的同意。您可随时退订：",
        "declined_title": "好的，不会给您发短信",
        "declined": "我们没有记录您的任何信息，也不会向您发送短信。这不影响您使用其他任何服务。",
        "refused_title": "未能登记",
        "refused": "该号码此前已拒绝所有发送方的短信，本次同意未生效，也不会收到营销短信。",
    },
    "en": {
        "number": "Enter a valid mobile number, for example 13800138000.",
        "topics": "Tick at least one box; if you want none of it, choose “{decline}”.",
        "scripted": "Please tick the boxes yourself. Consent ticked by a program is not taken.",
        "changed": "This form has just changed. Please read it and tick again.",
        "wait": "Too many requests. Please try again later.",
        "away": "This is not available at the moment. Nothing was submitted; please try again later.",
        "code_title": "Please confirm that this is your number",
        "code_sent": "If {number} can receive our messages, a confirmation is on its way. "
        "Nothing came? Wait a minute, then start again.",
        "code_label": "6-digit code from the message",
        "code_hint": "The code is valid for 10 minutes; or reply Y to the message within 24 hours. Doing nothing "
        "means no.",
        "code_submit": "Confirm",
        "code_wrong": "The code is not right, or it is no longer valid. Check the message, or start again.",
        "again": "Start again",
        "done_title": "You are subscribed",
        "done": "Your consent is recorded. You can stop at any time:",
        "declined_title": "All right, we will not write to you",
        "declined": "Nothing about you was recorded and no message will be sent. This changes nothing else for you.",
        "refused_title": "Not recorded",
        "refused": "This number has refused messages from every sender. This consent has no effect, and no marketing "
        "message will follow.",
    },
}
